"""A missing or bad setting is named, and no error shows a secret."""

from __future__ import annotations

import pytest

from sendledger.core.errors import SettingsError
from sendledger.core.settings import DatabaseSettings, SenderSettings

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
        ("SENDER_THREADS", "-1"),
        ("LATE_AFTER_MINUTES", "0"),
    ],
)
def test_bad_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        SenderSettings.read({**GOOD, name: value})


def test_every_problem_is_told_at_once() -> None:
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
