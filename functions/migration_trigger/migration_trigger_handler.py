"""The Lambda that lets a deployment migrate: CloudFormation's event of a custom resource in, its answer by HTTP out.

It runs outside the VPC, where CloudFormation, Lambda and Secrets Manager are reached without endpoints; what there is
to do in the database, MigrateFunction does, on the inside. Nothing that goes wrong here raises: CloudFormation would
wait for its answer until the resource's timeout.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

from __future__ import annotations

import json
from typing import Any

import boto3
import urllib3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

from sendledger.core.settings import MigrationTriggerSettings

PHYSICAL_ID = "schema"
"""Never another one: a change of it would make CloudFormation delete the old resource."""

MAX_REASON = 1000
"""Characters; a whole answer may have 4,096 bytes."""

logger = Logger()


class MigrationFailed(Exception):
    """MigrateFunction has failed; the message is its own."""


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> None:
    try:
        # The database and what is in it outlive the stack.
        wanted = event["RequestType"] != "Delete" and event["ResourceProperties"]["Migrate"] == "true"
        data = _migrate(MigrationTriggerSettings.read()) if wanted else {}
        _answer(event, "SUCCESS", data=data)
    except Exception as error:
        logger.exception("The migration failed")
        _answer(event, "FAILED", reason=f"{type(error).__name__}: {error}"[:MAX_REASON])


def _migrate(settings: MigrationTriggerSettings) -> dict[str, Any]:
    # It waits as long as a migration may take, and asks once.
    patience = Config(read_timeout=890, tcp_keepalive=True, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", config=patience)

    def invoke(event: dict[str, Any]) -> dict[str, Any]:
        answer = client.invoke(FunctionName=settings.migrate_function_name, Payload=json.dumps(event))
        result: dict[str, Any] = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise MigrationFailed(f"{result.get('errorType')}: {result.get('errorMessage')}")
        return result

    if settings.database_admin_secret_arn:
        secrets = boto3.client("secretsmanager")
        admin = json.loads(secrets.get_secret_value(SecretId=settings.database_admin_secret_arn)["SecretString"])
        invoke({"action": "create_roles", "admin_user": admin["username"], "admin_password": admin["password"]})
    upgraded = invoke({"action": "upgrade", "newer_is_fine": True})
    logger.info("The database is upgraded", extra=upgraded)
    return upgraded


def _answer(event: dict[str, Any], status: str, reason: str = "", data: dict[str, Any] | None = None) -> None:
    body = {
        "Status": status,
        "Reason": reason or "See the function's log.",
        "PhysicalResourceId": event.get("PhysicalResourceId", PHYSICAL_ID),
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "Data": data or {},
    }
    # The signature of the URL covers an empty content type.
    sent = urllib3.request(
        "PUT",
        event["ResponseURL"],
        body=json.dumps(body),
        headers={"content-type": ""},
        timeout=10.0,
        retries=urllib3.Retry(total=4, backoff_factor=0.5, status_forcelist=(500, 503), allowed_methods=None),
    )
    logger.info("Answered CloudFormation", extra={"status": status, "http_status": sent.status})
