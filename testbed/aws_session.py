"""The session that tests make their clients of AWS with."""

from __future__ import annotations

import functools

import botocore.session


@functools.cache
def aws_session() -> botocore.session.Session:
    """One for the process: it reads what botocore knows of a service once, a tenth of a second.

    Where a client's service is, says who makes the client, or the environment at that moment.
    """
    session = botocore.session.get_session()
    session.set_credentials("test", "test")
    session.set_config_variable("region", "us-east-1")
    return session
