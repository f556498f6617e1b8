"""Secrets that are kept in AWS Secrets Manager: an ARN in, the text of the secret out. Uses no table."""

from __future__ import annotations

import functools
from typing import Any


def read_secret(arn: str) -> str:
    """The secret's current text.

    Raises:
        ClientError, BotoCoreError: it is not there, may not be read, or Secrets Manager cannot be reached.
    """
    text: str = _client().get_secret_value(SecretId=arn)["SecretString"]
    return text


@functools.cache
def _client() -> Any:
    # For cold starts: many functions have no secret.
    import boto3
    from botocore.config import Config

    # A function that starts waits for it.
    patience = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 3, "mode": "standard"})
    return boto3.client("secretsmanager", config=patience)
