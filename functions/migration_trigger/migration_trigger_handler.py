"""The Lambda that lets a deployment migrate: CloudFormation's event of a custom resource in, its answer by HTTP out.

It runs outside the VPC, where it reaches CloudFormation, Lambda, SQS and Secrets Manager without VPC endpoints.
MigrateFunction, inside the VPC, does the work in the database. The upgrade is invoked asynchronously, because it may
take 14 minutes and no connection stays open for that long. Its result arrives in a queue. CloudFormation always gets an
answer before this function times out; without one it would wait until the resource's own timeout.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
import urllib3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sendledger.core.settings import MigrationTriggerSettings
from sendledger.core.tables import SCHEMA_REVISION, has_these_tables, revision_order

PHYSICAL_ID = "schema"
"""It must never change: CloudFormation would delete the old resource."""

MAX_REASON = 1000
"""Characters; a whole answer may have 4,096 bytes."""

PATIENCE = 90.0
"""Seconds to wait until a new role, a new function, its new code and a new IAM login work."""

PAUSE = 3.0
"""Seconds between two attempts."""

TIME_TO_ANSWER = 20.0
"""Seconds that are kept free for the answer to CloudFormation."""

LONGEST_POLL = 10
"""Seconds that SQS waits for a message; a poll that hangs then still ends before `TIME_TO_ANSWER` is over."""

LONGEST_CALL = 120.0
"""Seconds for the short calls of MigrateFunction: its start in a new VPC, and a login."""

# https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html#API_Invoke_Errors
_PASSES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "EC2AccessDeniedException",
        "EC2ThrottledException",
        "ENILimitReachedException",
        "ResourceConflictException",
        "ResourceNotFoundException",
        "ResourceNotReadyException",
        "ServiceException",
        "TooManyRequestsException",
    }
)

_Result = TypeVar("_Result")

logger = Logger()


class MigrationFailed(Exception):
    """MigrateFunction has failed; the message is its own."""


class LoginRefused(MigrationFailed):
    """The database has refused MigrateFunction's login."""


class StillRunning(Exception):
    """This function has no time left, and the migration is still running."""


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> None:
    end = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - TIME_TO_ANSWER
    try:
        # The database and its content outlive the stack.
        wanted = event["RequestType"] != "Delete" and event["ResourceProperties"]["Migrate"] == "true"
        data = _Migration(MigrationTriggerSettings.read(), end).run() if wanted else {}
        _answer(event, "SUCCESS", data=data)
    except Exception as error:
        logger.exception("The migration failed")
        _answer(event, "FAILED", reason=f"{type(error).__name__}: {error}"[:MAX_REASON])


class _Migration:
    """One deployment's work in the database. It must be over at `end` (`time.monotonic`)."""

    def __init__(self, settings: MigrationTriggerSettings, end: float) -> None:
        self._settings = settings
        self._end = end
        # No retries of botocore: this class decides what is retried, and until when.
        once = {"total_max_attempts": 1}
        self._lambda = boto3.client(
            "lambda", config=Config(read_timeout=LONGEST_CALL, connect_timeout=10, retries=once)
        )
        self._queue = boto3.client("sqs", config=Config(read_timeout=LONGEST_POLL + 2, connect_timeout=3, retries=once))

    def run(self) -> dict[str, Any]:
        self._make_sure_of_users()
        upgraded = self._upgrade()
        # Soon after an update Lambda may still run the function as it was, whose migrations end earlier.
        give_up = min(self._end, time.monotonic() + PATIENCE)
        while not has_these_tables(revision := upgraded["revision"]):
            if revision_order(revision) < revision_order("0000"):
                raise MigrationFailed(
                    f"The database is at revision {revision}, another application's: give another DatabaseName."
                )
            if time.monotonic() + PAUSE >= give_up:
                raise MigrationFailed(
                    f"The database is at revision {revision}, and this version needs {SCHEMA_REVISION}: "
                    "MigrateFunction was not updated yet. Deploy again."
                )
            logger.info("The upgrade is repeated, as MigrateFunction was not updated yet", extra=upgraded)
            time.sleep(PAUSE)
            upgraded = self._upgrade()
        logger.info("The database is upgraded", extra=upgraded)
        return upgraded

    def _make_sure_of_users(self) -> None:
        """The administrator logs in only if a user is missing."""
        admin_secret = self._settings.database_admin_secret_arn
        try:
            missing = self._patiently(self._missing_users, logins=admin_secret is None)
        except LoginRefused:
            if admin_secret is None:
                raise
            logger.info("The owner cannot log in, so the users are made")
            missing = ["the owner"]
        if not missing or admin_secret is None:
            return  # the upgrade names users that could not be created
        try:
            self._patiently(lambda: self._create_roles(admin_secret), logins=False)
        except LoginRefused as refused:
            # Then the owner existed already, and only its login was late.
            logger.info("The administrator cannot log in", extra={"reason": str(refused)})
            if still_missing := self._patiently(self._missing_users):
                raise MigrationFailed(
                    f"The database has no users {', '.join(still_missing)}, and it refuses the administrator. "
                    "Create them as docs/operations/deploy.md says."
                ) from refused
        else:
            # A login by IAM works some time after it was granted.
            self._patiently(self._missing_users)

    def _missing_users(self) -> list[str]:
        missing: list[str] = self._call({"action": "current"}).get("missing_users", [])
        return missing

    def _create_roles(self, secret_arn: str) -> None:
        """RDS takes the administrator's password before there are users, and a token afterwards (see
        `database_roles.create_roles`)."""
        secrets = boto3.client("secretsmanager")
        admin = json.loads(secrets.get_secret_value(SecretId=secret_arn)["SecretString"])
        event = {"action": "create_roles", "admin_user": admin["username"]}
        try:
            # Not through a queue, because the event contains the password.
            self._call({**event, "admin_password": admin["password"]})
        except LoginRefused:
            # This deployment may have been the first to permit the administrator a login by IAM.
            self._patiently(lambda: self._call(event))

    def _call(self, event: dict[str, Any]) -> dict[str, Any]:
        """Invoke MigrateFunction synchronously, for short work."""
        answer = self._lambda.invoke(FunctionName=self._settings.migrate_function_name, Payload=json.dumps(event))
        return _result(json.loads(answer["Payload"].read()), "FunctionError" in answer)

    def _upgrade(self) -> dict[str, Any]:
        """Invoke MigrateFunction asynchronously, for long work, and wait for its result in the queue.

        https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html#invocation-async-destinations
        """
        started = self._patiently(
            lambda: self._lambda.invoke(
                FunctionName=self._settings.migrate_function_name,
                InvocationType="Event",
                Payload=json.dumps({"action": "upgrade", "newer_is_fine": True}),
            )
        )
        started["Payload"].close()  # it is empty; unread, it would keep the connection open
        request_id = started["ResponseMetadata"]["RequestId"]
        logger.info("The upgrade is started", extra={"migrate_request_id": request_id})
        while True:
            for message in self._patiently(self._receive):
                self._forget(message["ReceiptHandle"])
                record = json.loads(message["Body"])
                # Other results belong to a deployment whose trigger has not waited for them.
                if record["requestContext"]["requestId"] == request_id:
                    failed = record["requestContext"]["condition"] != "Success"
                    return _result(record.get("responsePayload") or record["requestContext"], failed)
            if time.monotonic() >= self._end:
                raise StillRunning(
                    "The migration is still running. It goes on by itself; look into the log of MigrateFunction, and "
                    "deploy again when it is over. docs/operations/upgrade.md says how to migrate a large database."
                )

    def _receive(self) -> list[dict[str, Any]]:
        """The messages of one poll. If SQS is unavailable there are none: the migration continues during an outage of
        SQS."""
        seconds = int(max(0, min(LONGEST_POLL, self._end - time.monotonic())))
        try:
            answer = self._queue.receive_message(
                QueueUrl=self._settings.migration_results_url, MaxNumberOfMessages=10, WaitTimeSeconds=seconds
            )
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and not _is_outage(error):
                raise
            logger.info("The queue did not answer", extra={"reason": str(error)})
            time.sleep(PAUSE)
            return []
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found

    def _forget(self, receipt_handle: str) -> None:
        try:
            self._queue.delete_message(QueueUrl=self._settings.migration_results_url, ReceiptHandle=receipt_handle)
        except (BotoCoreError, ClientError) as error:
            # The next deployment ignores a result that is not its own.
            logger.info("A result stays in the queue", extra={"reason": str(error)})

    def _patiently(self, call: Callable[[], _Result], logins: bool = True) -> _Result:
        """Retry, for a while, what fails only because something is new. Without `logins`, failed logins are not
        retried."""
        give_up = min(self._end, time.monotonic() + PATIENCE)
        while True:
            try:
                return call()
            except (ClientError, LoginRefused) as error:
                code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
                passes = code in _PASSES if code else logins
                if not passes or time.monotonic() + PAUSE >= give_up:
                    raise
                logger.info("Trying again", extra={"reason": str(error)})
                time.sleep(PAUSE)


def _is_outage(error: ClientError) -> bool:
    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return status >= 500 or status == 429 or "Throttl" in code or code == "OverLimit"


def _result(payload: dict[str, Any], failed: bool) -> dict[str, Any]:
    if not failed:
        return payload
    kind, message = payload.get("errorType"), payload.get("errorMessage")
    if kind == "LoginRefused":
        raise LoginRefused(str(message))
    raise MigrationFailed(f"{kind}: {message}" if kind else str(message or payload.get("condition")))


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
