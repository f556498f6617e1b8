"""The settings of each function, read from environment variables once and checked at start.

The only place that reads the environment. A missing or bad variable raises `SettingsError` naming it.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import os
import re
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasGenerator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from sendledger.core import stored_secrets
from sendledger.core.errors import SettingsError
from sendledger.core.signed_tokens import TokenKey, TokenKeys


def _mailbox(value: str) -> str:
    address = parseaddr(value)[1]
    if "@" not in address or not address.isascii():
        raise ValueError("must be an address such as Ann <ann@example.com>")
    return value


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    on_this_machine = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1")
    if not (parts.scheme == "https" or on_this_machine) or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an https:// URL without a query, such as https://mail.example.com")
    if not re.fullmatch(r"[!-~]{1,200}", value):
        raise ValueError("must have at most 200 characters, all of them printable ASCII")
    return value.rstrip("/")


def _time_zone(value: str) -> str:
    # Imported by the sender only.
    from sendledger.core.time_zones import zone_name

    return zone_name(value)


def _issuer(value: str) -> str:
    # Not normalised: tokens contain exactly this text, with or without a final slash.
    _public_url(value)
    return value


def _token_keys(value: Any) -> TokenKeys:
    text = str(value)
    if text.startswith("arn:"):
        try:
            text = _stored_keys(text)
        except Exception as error:
            # Whatever the error is, the function cannot start. Only its type is shown, because its text may contain
            # secrets.
            reason = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
            raise ValueError(f"cannot be read from Secrets Manager ({reason})") from None
    keys = []
    for part in text.split(","):
        id_, _, secret = part.strip().partition(":")
        try:
            decoded = base64.b64decode(secret, validate=True)
        except ValueError:
            decoded = b""
        if not re.fullmatch(r"[a-z0-9]{1,8}", id_) or len(decoded) < 32:
            # Without the value, because this text is logged.
            raise ValueError(
                "must be <id>:<secret>[,<id>:<secret>…] with ids of 1 to 8 lower-case letters and digits and secrets "
                "of 32 or more bytes in base64"
            )
        keys.append(TokenKey(id_, decoded))
    if len({key.id for key in keys}) < len(keys):
        raise ValueError("has the same id twice")
    return TokenKeys(keys)


@functools.cache
def _stored_keys(arn: str) -> str:
    """Cached, because a function reads its settings more than once. A new execution environment reads new keys."""
    return stored_secrets.read_secret(arn)


def _test_recipients(value: Any) -> tuple[str, ...]:
    found = tuple(part.strip() for part in str(value).split(",") if part.strip())
    for part in found:
        if not re.fullmatch(r"(?:\*|[^@*?\s]+)@[a-z0-9-]+(\.[a-z0-9-]+)+", part) or part != part.lower():
            raise ValueError("must be lower-case addresses or whole domains: ann@example.com,*@example.org")
    return found


def at_cold_start(*readers: Callable[[], object], environ: Mapping[str, str] = os.environ) -> None:
    """In Lambda, call these functions now. Bad settings then fail the cold start, before an event could be lost.

    Tests and tools load the same modules without their environment; `AWS_LAMBDA_RUNTIME_API` is always there in Lambda:
    https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
    """
    if "AWS_LAMBDA_RUNTIME_API" in environ:
        for read in readers:
            read()


Mailbox = Annotated[str, AfterValidator(_mailbox)]
TestRecipients = Annotated[tuple[str, ...], BeforeValidator(_test_recipients)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Issuer = Annotated[str, AfterValidator(_issuer)]
StopOnReply = Literal["campaign", "all"]
"""Whether a reply ends the mail of its campaign only, or of every campaign."""
WebhookTargets = Literal["public", "any"]
"""Where webhooks may go: to https:// at public addresses, or on one's own machine anywhere."""
Keys = Annotated[TokenKeys, BeforeValidator(_token_keys)]
PostalAddress = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*\S[^\x00-\x1f\x7f]*$")]
Domain = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+$", max_length=190)]


def _said(problem: Any) -> str:
    """With the variable, if it is about one."""
    message = "is not set" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
    return ": ".join([*map(str, problem["loc"]), message])


class _Settings(BaseModel):
    """Fields are read from the environment variable of the same name in upper case; empty means not set."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=AliasGenerator(validation_alias=str.upper),
        arbitrary_types_allowed=True,
        defer_build=True,  # a function needs one or two of the classes below
    )

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Self:
        try:
            return cls.model_validate({name: value for name, value in environ.items() if value != ""})
        except ValidationError as error:
            problems = [_said(problem) for problem in error.errors(include_input=False, include_url=False)]
            # From None: the chained error would print the values, and a database URL holds a password.
            raise SettingsError(f"Bad settings: {'; '.join(problems)}") from None


class DatabaseSettings(_Settings):
    """Where the database is: `DATABASE_URL`, or host, name and user with IAM authentication or a secret."""

    database_url: str | None = Field(None, repr=False)
    database_host: str | None = None
    database_port: int = 5432
    database_name: str = "sendledger"
    database_user: str = "sendledger"
    database_iam_auth: bool = False
    database_secret_arn: str | None = None
    database_ca_bundle: str | None = None
    # A replica for what may be some seconds old; see core/reader.py.
    database_reader_url: str | None = Field(None, repr=False)
    database_reader_host: str | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if not self.database_url and not self.database_host:
            raise ValueError("set DATABASE_URL or DATABASE_HOST")
        if self.database_host and not self.database_url and not (self.database_iam_auth or self.database_secret_arn):
            raise ValueError("with DATABASE_HOST set DATABASE_IAM_AUTH=true or DATABASE_SECRET_ARN")
        return self

    def of_reader(self) -> Self | None:
        """The same for the reader endpoint; None where there is none."""
        if self.database_url:
            name, value = "database_url", self.database_reader_url
        else:
            name, value = "database_host", self.database_reader_host
        return self.model_copy(update={name: value}) if value else None


class MailSettings(_Settings):
    """What is added to every campaign email."""

    # Where unsubscribe links lead: the address under which recipients reach /u/….
    public_url: PublicUrl | None = None
    # The keys, or the ARN of a secret that holds them. The first key signs links and reply addresses. All keys verify,
    # so that old links keep working.
    unsubscribe_keys: Keys | None = Field(None, repr=False)
    # The sender's, for the footer.
    postal_address: PostalAddress | None = None
    # Where SES receives replies. Without it replies are matched by their headers and addresses only.
    reply_domain: Domain | None = None

    @model_validator(mode="after")
    def _tokens_can_be_signed(self) -> Self:
        if (self.public_url or self.reply_domain) and self.unsubscribe_keys is None:
            raise ValueError("with PUBLIC_URL or REPLY_DOMAIN set UNSUBSCRIBE_KEYS")
        return self


class GuardrailSettings(_Settings):
    """When a campaign pauses itself. A campaign may have its own limits."""

    guardrails_enabled: bool = True
    # SES puts an account under review at 5 % bounces; Gmail and Yahoo want complaints below 0.1 %.
    guardrail_max_bounce_rate: float = Field(0.05, gt=0, le=1)
    guardrail_max_complaint_rate: float = Field(0.001, gt=0, le=1)
    guardrail_min_emails: int = Field(50, ge=1)
    # Complaints come in for days.
    guardrail_window_hours: int = Field(72, ge=1, le=720)
    guardrail_max_provider_errors: int = Field(5, ge=1)


class SenderSettings(MailSettings, GuardrailSettings):
    """What the sender needs besides the database."""

    deployment_id: str
    sender_from_address: Mailbox
    ses_configuration_set: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    # The domain of the Message-IDs that SES gives to emails, where it is another one than ses/message_ids.py says.
    ses_message_id_domain: Domain | None = None
    # Where the attachments of templates are.
    file_bucket: str | None = None
    # Senders that may run at once; they share the SES rate through the database.
    sender_concurrency: int = Field(1, ge=1, le=100)
    # The share of MaxSendRate that is used. Other mail of the account needs some, and SES's clock may differ.
    sender_rate_safety: float = Field(0.95, gt=0, le=1)
    # Emails a second that one sender is expected to send. If more are due, more senders are started. The default is
    # careful: docs/speed.md has what one core can do.
    sender_capacity_per_second: int = Field(500, ge=1)
    # Concurrent SES calls, at most. More help only if SES answers slowly.
    sender_connections: int = Field(192, ge=1, le=512)
    late_after_minutes: int = Field(360, ge=1, le=999_999_999)
    # Where the day that caps are counted by begins and ends.
    sending_day_time_zone: TimeZone = "UTC"

    @property
    def late_after(self) -> dt.timedelta:
        return dt.timedelta(minutes=self.late_after_minutes)


class ApiSettings(MailSettings):
    """What the API needs besides the database."""

    # Whether this deployment is the one that sends.
    deployment_id: str | None = None
    # For the preflight: the sender's settings.
    sender_from_address: Mailbox | None = None
    # The domain or address that the sender's IAM role allows.
    ses_identity: str | None = None
    # Further ones, with commas between them.
    more_ses_identities: str = ""
    ses_configuration_set: str | None = None
    # As the sender has it, for test emails.
    ses_message_id_domain: Domain | None = None
    sender_rate_safety: float = Field(0.95, gt=0, le=1)
    stop_on_reply: StopOnReply = "all"
    # The sender function, invoked for "send now". Without it the email goes out with the next tick.
    sender_function_name: str | None = None
    # For the local stack: an additional key of any form.
    fixed_api_key: str | None = Field(None, repr=False)
    # Told to deliver a test or a replay at once; without it the next minute does.
    webhook_sender_function_name: str | None = None
    webhook_targets: WebhookTargets = "public"
    # Who may get test emails.
    test_send_addresses: TestRecipients = ()


class TokenSettings(_Settings):
    """JWTs that the API accepts besides its own keys. API Gateway verifies them. Without an issuer there are none."""

    jwt_issuer: Issuer | None = None
    # The claim that contains the role, and the prefix of the role in it.
    jwt_role_claim: str | None = None
    jwt_role_prefix: str = ""

    @model_validator(mode="after")
    def _roles_can_be_read(self) -> Self:
        if self.jwt_issuer is not None and self.jwt_role_claim is None:
            raise ValueError("with JWT_ISSUER set JWT_ROLE_CLAIM")
        return self


class ExportSettings(_Settings):
    """Where exports are written."""

    file_bucket: str


class FileSettings(ExportSettings):
    """What the API needs for files that do not fit into a request or an answer."""

    # Functions to invoke for new work. Without their names, their schedules find it.
    lead_import_function_name: str | None = None
    export_function_name: str | None = None


def _days_or_ever(least: int) -> AfterValidator:
    def check(days: int) -> int:
        if 0 < days < least:
            raise ValueError(f"must be 0, which keeps for ever, or at least {least} days")
        return days

    return AfterValidator(check)


class RetentionSettings(_Settings):
    """For how many days after the end of a campaign something of it is kept; 0 or blank: for ever."""

    # Opt-outs, replies and reports of SES come for weeks.
    keep_content_days: Annotated[int, Field(ge=0, le=9999), _days_or_ever(30)] = 0
    keep_events_days: Annotated[int, Field(ge=0, le=9999), _days_or_ever(30)] = 0
    keep_ledgers_days: Annotated[int, Field(ge=0, le=9999), _days_or_ever(90)] = 0
    # Whether what is removed is written to the bucket first.
    archive_removed: bool = False
    file_bucket: str | None = None

    @model_validator(mode="after")
    def _archive_has_a_place(self) -> Self:
        if self.archive_removed and not self.file_bucket:
            raise ValueError("with ARCHIVE_REMOVED=true set FILE_BUCKET")
        return self


class WebhookSenderSettings(_Settings):
    """Whom the function that posts webhooks asks, and where it may post."""

    webhook_exchange_function_name: str
    webhook_targets: WebhookTargets = "public"


class UnsubscribeSettings(_Settings):
    """What the public Lambda needs besides the database."""

    unsubscribe_keys: Keys = Field(repr=False)
    sender_from_address: Mailbox


class ReplySettings(MailSettings):
    """What the receiver of replies needs besides the database."""

    stop_on_reply: StopOnReply = "all"


class MigrateSettings(_Settings):
    """What the function that migrates needs besides the database."""

    # If each kind of function has its own database user, the prefix of these users; see database_roles.py.
    database_user_prefix: str | None = None


class MigrationTriggerSettings(_Settings):
    """What the custom resource of CloudFormation needs: the function to invoke, and the administrator's secret."""

    migrate_function_name: str
    # The queue that receives the result of each asynchronous invocation.
    migration_results_url: str
    # Only for a database that the stack has created.
    database_admin_secret_arn: str | None = None


class SesEventsSettings(GuardrailSettings):
    """Which events are ingested: those of this account and this configuration set."""

    ses_account_id: str = Field(pattern=r"^[0-9]{12}$")
    ses_configuration_set: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
