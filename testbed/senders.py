"""A sender for tests and benchmarks, wired to an SES simulator."""

from __future__ import annotations

import sqlalchemy as sa

from sendledger.core.settings import SenderSettings
from sendledger.sending.tick import Resources
from sendledger.ses.client import ses_client
from testbed.aws_session import aws_session


def sender_resources(engine: sa.Engine, ses_url: str, **settings: str) -> Resources:
    """What a sender needs, wired to a simulator; pass an engine of the sender's own user."""
    environ = {"DEPLOYMENT_ID": "test", "SENDER_FROM_ADDRESS": "Sales <sales@example.com>", **settings}
    return Resources(
        engine=engine,
        ses_client=ses_client(aws_session(), endpoint_url=ses_url),
        settings=SenderSettings.read({"SES_CONFIGURATION_SET": "sendledger", **environ}),
    )
