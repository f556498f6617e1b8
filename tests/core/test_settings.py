"""A missing or bad setting is named, and no error shows a secret."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from sendledger.core import stored_secrets
from sendledger.core.errors import SettingsError
from sendledger.core.settings import DatabaseSettings, MailSettings, SenderSettings

SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

GOOD = {"DEPLOYMENT_ID": "test", "SENDER_FROM_ADDRESS": "Sales <sales@example.com>"}


def test_settings_are_read_from_variables_of_the_same_name() -> None:
    settings = SenderSettings.read({**GOOD, "SENDER_CONCURRENCY": "4", "LATE_AFTER_MINUTES": "90", "OTHER": "x"})
    assert (settings.deployment_id, settings.sender_concurrency) == ("test", 4)
    assert settings.late_after.total_seconds() == 5400


def test_empty_variable_is_not_set() -> None:
    assert SenderSettings.read({**GOOD, "SES_CONFIGURATION_SET": ""}).ses_configuration_set is None
    with pytest.raises(SettingsError, match="DEPLOYMENT_ID: is not set"):
        SenderSettings.read({**GOOD, "DEPLOYMENT_ID": ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SENDER_FROM_ADDRESS", "nobody"),
        ("SENDER_FROM_ADDRESS", "jörg@example.com"),
        ("SES_CONFIGURATION_SET", "a b"),
        ("SENDER_CONCURRENCY", "0"),
        ("SENDER_CONCURRENCY", "many"),
        ("SENDER_RATE_SAFETY", "1.5"),
        ("SENDER_RATE_SAFETY", "0"),
        ("SENDER_CONNECTIONS", "-1"),
        ("LATE_AFTER_MINUTES", "0"),
    ],
)
def test_bad_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        SenderSettings.read({**GOOD, name: value})


@pytest.fixture
def keys_arn(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A secret of Secrets Manager with the keys of unsubscribe links."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    stored_secrets._client.cache_clear()
    with mock_aws():
        made = boto3.client("secretsmanager").create_secret(Name="keys", SecretString=f"k2:{SECRET},k1:{SECRET}")
        yield made["ARN"]
    stored_secrets._client.cache_clear()


def test_unsubscribe_keys_may_be_in_a_secret(keys_arn: str) -> None:
    keys = MailSettings.read({"UNSUBSCRIBE_KEYS": keys_arn}).unsubscribe_keys
    assert keys is not None
    assert keys.reply_token(1).startswith("k2.")


def test_a_secret_that_cannot_be_read_is_named_with_the_reason(keys_arn: str) -> None:
    with pytest.raises(SettingsError, match=r"UNSUBSCRIBE_KEYS.*Secrets Manager \(ResourceNotFoundException\)"):
        MailSettings.read({"UNSUBSCRIBE_KEYS": keys_arn.replace("keys", "other")})


def test_content_of_a_bad_secret_is_not_shown(keys_arn: str) -> None:
    boto3.client("secretsmanager").put_secret_value(SecretId=keys_arn, SecretString="k1:nobody-may-read-this")
    with pytest.raises(SettingsError, match="UNSUBSCRIBE_KEYS") as caught:
        MailSettings.read({"UNSUBSCRIBE_KEYS": keys_arn})
    assert "nobody-may-read-this" not in str(caught.value)


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(SettingsError) as caught:
        SenderSettings.read({"SENDER_CONCURRENCY": "0"})
    for name in ("DEPLOYMENT_ID", "SENDER_FROM_ADDRESS", "SENDER_CONCURRENCY"):
        assert name in caught.value.detail


def test_database_needs_a_url_or_a_host_with_a_way_in() -> None:
    for environ in ({}, {"DATABASE_HOST": "db"}):
        with pytest.raises(SettingsError):
            DatabaseSettings.read(environ)
    assert DatabaseSettings.read({"DATABASE_HOST": "db", "DATABASE_IAM_AUTH": "true"}).database_iam_auth


def test_password_in_the_url_is_in_no_error_and_no_repr() -> None:
    url = "postgresql://ann:hunter2@db/name"
    with pytest.raises(SettingsError) as caught:
        DatabaseSettings.read({"DATABASE_URL": url, "DATABASE_PORT": "hunter2"})
    assert "hunter2" not in f"{caught.value} {caught.value.detail} {caught.value.__cause__}"
    assert "hunter2" not in repr(DatabaseSettings.read({"DATABASE_URL": url}))
