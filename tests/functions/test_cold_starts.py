"""A built function with a wrong setting does not start: it says which one, and nothing of what it was."""

from __future__ import annotations

import pytest

from local.template import Template
from sendledger.core.settings import at_cold_start
from testbed.lambda_runtime import FunctionError
from tests.functions.conftest import StartFunction

SECRET = "a-value-that-nobody-may-read"
OTHER_DATABASE = f"mysql://user:{SECRET}@db.example.com/name"

# MigrationTriggerFunction has to answer CloudFormation: see test_built_functions.py.
ANSWERS_INSTEAD = {"MigrationTriggerFunction"}

WRONG = [
    ("CampaignApiFunction", "DATABASE_URL", OTHER_DATABASE),
    ("CampaignApiFunction", "DATABASE_CA_BUNDLE", "/opt/missing.pem"),
    ("CampaignApiFunction", "UNSUBSCRIBE_KEYS", f"k1:{SECRET}"),
    ("CampaignApiFunction", "PUBLIC_URL", f"ftp://{SECRET}"),
    ("CampaignApiFunction", "SENDER_RATE_SAFETY", SECRET),
    ("CampaignApiFunction", "JWT_ISSUER", SECRET),
    ("CampaignApiFunction", "FILE_BUCKET", ""),
    ("SenderFunction", "SENDER_FROM_ADDRESS", SECRET),
    ("SenderFunction", "SENDER_CONCURRENCY", "0"),
    ("SenderFunction", "DEPLOYMENT_ID", ""),
    ("SenderFunction", "UNSUBSCRIBE_KEYS", f"k1:{SECRET}"),
    ("SenderFunction", "DATABASE_PORT", SECRET),
    ("SesEventsFunction", "SES_ACCOUNT_ID", SECRET),
    ("SesEventsFunction", "DATABASE_URL", OTHER_DATABASE),
    ("UnsubscribeFunction", "UNSUBSCRIBE_KEYS", SECRET),
    ("UnsubscribeFunction", "DATABASE_URL", OTHER_DATABASE),
    ("ReplyFunction", "STOP_ON_REPLY", SECRET),
    ("ReplyFunction", "DATABASE_URL", OTHER_DATABASE),
    ("LeadImportFunction", "DATABASE_URL", OTHER_DATABASE),
    ("ExportFunction", "FILE_BUCKET", ""),
    ("ExportFunction", "DATABASE_URL", OTHER_DATABASE),
    ("RetentionFunction", "KEEP_CONTENT_DAYS", SECRET),
    ("RetentionFunction", "DATABASE_URL", OTHER_DATABASE),
    ("WebhookExchangeFunction", "DATABASE_URL", OTHER_DATABASE),
    ("WebhookSenderFunction", "WEBHOOK_EXCHANGE_FUNCTION_NAME", ""),
    ("WebhookSenderFunction", "WEBHOOK_TARGETS", SECRET),
    ("MigrateFunction", "DATABASE_URL", OTHER_DATABASE),
    ("MigrateFunction", "DATABASE_PORT", SECRET),
]


def test_no_function_of_the_template_is_left_out(built_template: Template) -> None:
    assert {logical_id for logical_id, _, _ in WRONG} == set(built_template.functions) - ANSWERS_INSTEAD


@pytest.mark.parametrize(("logical_id", "variable", "value"), WRONG)
def test_cold_start_with_a_wrong_setting_names_it_and_shows_no_value(
    start_function: StartFunction, logical_id: str, variable: str, value: str
) -> None:
    # On no machine: that nothing answers there is not what it fails with.
    good = {"DATABASE_URL": "postgresql://sendledger@db.example.com/sendledger"}
    function = start_function(logical_id, good | {variable: value})
    # The event does not matter: it never gets to it.
    with pytest.raises(FunctionError, match=f"^SettingsError: .*{variable}") as caught:
        function.invoke({})
    assert SECRET not in str(caught.value)
    assert SECRET not in function.log


def test_settings_are_checked_on_lambda_only() -> None:
    def fail() -> None:
        raise AssertionError

    at_cold_start(fail, environ={})
    with pytest.raises(AssertionError):
        at_cold_start(fail, environ={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"})
