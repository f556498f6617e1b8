"""What an answer of SES means, and that nothing is sent twice."""

from __future__ import annotations

import botocore.session
import pytest

from sendledger.ses.answers import Answer, classify
from sendledger.ses.client import ses_client
from sendledger.ses.connection import READ_TIMEOUT


@pytest.mark.parametrize(
    ("code", "message", "status", "answer"),
    [
        ("TooManyRequestsException", "Maximum sending rate exceeded.", 429, Answer.SLOW_DOWN),
        ("TooManyRequestsException", "Daily message quota exceeded.", 429, Answer.STOP_FOR_A_WHILE),
        ("Throttling", "Rate exceeded", 400, Answer.SLOW_DOWN),
        ("LimitExceededException", "", 400, Answer.STOP_FOR_A_WHILE),
        ("AccountSuspendedException", "", 400, Answer.STOP_UNTIL_OPERATOR),
        ("SendingPausedException", "", 400, Answer.STOP_UNTIL_OPERATOR),
        ("AccountSendingPausedException", "", 400, Answer.STOP_UNTIL_OPERATOR),
        ("ConfigurationSetSendingPausedException", "", 400, Answer.STOP_UNTIL_OPERATOR),
        (
            "MessageRejected",
            "Sending paused for this account. For more information, …",
            400,
            Answer.STOP_UNTIL_OPERATOR,
        ),
        ("MessageRejected", "Sending suspended for this account.", 400, Answer.STOP_UNTIL_OPERATOR),
        ("MessageRejected", "Your account's ability to send email has been paused.", 400, Answer.STOP_UNTIL_OPERATOR),
        ("BadRequestException", "Email sending is currently disabled.", 400, Answer.STOP_UNTIL_OPERATOR),
        ("MessageRejected", "Sending is disabled for the configuration set x.", 400, Answer.STOP_UNTIL_OPERATOR),
        ("SomethingNewException", "The tenant has been suspended.", 400, Answer.STOP_UNTIL_OPERATOR),
        ("MessageRejected", "Daily message quota exceeded.", 400, Answer.STOP_FOR_A_WHILE),
        ("MessageRejected", "Address is on the suppression list of your account.", 400, Answer.FAIL_ROW),
        ("BadRequestException", "Local address contains control or whitespace", 400, Answer.FAIL_ROW),
        ("SignatureDoesNotMatch", "Signature expired: 2026 is now earlier than", 403, Answer.STOP_FOR_A_WHILE),
        ("SignatureDoesNotMatch", "Signature not yet current: 2026", 403, Answer.STOP_FOR_A_WHILE),
        ("SignatureDoesNotMatch", "The request signature we calculated", 403, Answer.STOP_UNTIL_OPERATOR),
        ("RequestTimeTooSkewed", "", 403, Answer.STOP_FOR_A_WHILE),
        ("OptInRequired", "", 400, Answer.STOP_UNTIL_OPERATOR),
        ("ExpiredTokenException", "", 403, Answer.STOP_FOR_A_WHILE),
        ("ExpiredToken", "", 400, Answer.STOP_FOR_A_WHILE),
        ("RequestExpired", "", 400, Answer.STOP_FOR_A_WHILE),
        ("InvalidSignatureException", "Signature expired: 2026 is now earlier than", 403, Answer.STOP_FOR_A_WHILE),
        ("InvalidSignatureException", "The request signature we calculated", 403, Answer.STOP_UNTIL_OPERATOR),
        ("IncompleteSignature", "", 400, Answer.STOP_UNTIL_OPERATOR),
        ("NotAuthorized", "", 400, Answer.STOP_UNTIL_OPERATOR),
        ("AccessDeniedException", "… on resource `arn:aws:ses:x:1:identity/b.com'", 403, Answer.PAUSE_CAMPAIGN),
        ("AccessDeniedException", "… with an explicit deny", 403, Answer.STOP_UNTIL_OPERATOR),
        ("RequestAbortedException", "", 400, Answer.UNKNOWN),
        ("ConflictException", "", 409, Answer.RETRY_LATER),
        ("SomethingNewException", "", 403, Answer.STOP_UNTIL_OPERATOR),
        ("404", "HTTP status 404", 404, Answer.STOP_UNTIL_OPERATOR),
        ("407", "HTTP status 407", 407, Answer.STOP_UNTIL_OPERATOR),
        ("MailFromDomainNotVerifiedException", "", 400, Answer.PAUSE_CAMPAIGN),
        ("NotFoundException", "Configuration set <x> does not exist.", 404, Answer.PAUSE_CAMPAIGN),
        ("MessageRejected", "Email address is not verified.", 400, Answer.PAUSE_CAMPAIGN),
        (
            "BadRequestException",
            "Email address is not verified. The following identities failed",
            400,
            Answer.PAUSE_CAMPAIGN,
        ),
        ("InvalidParameterValue", "Configuration set <x> doesn't exist.", 400, Answer.PAUSE_CAMPAIGN),
        ("MessageRejected", "Content rejected", 400, Answer.FAIL_ROW),
        ("BadRequestException", "", 400, Answer.FAIL_ROW),
        ("413", "HTTP status 413", 413, Answer.FAIL_ROW),
        ("SomethingNewException", "", 429, Answer.SLOW_DOWN),
        ("408", "HTTP status 408", 408, Answer.UNKNOWN),
        ("InternalFailure", "", 500, Answer.UNKNOWN),
        ("ServiceUnavailable", "", 503, Answer.UNKNOWN),
        ("TooManyRequestsException", "Maximum sending rate exceeded.", 500, Answer.SLOW_DOWN),
        ("301", "HTTP status 301", 301, Answer.UNKNOWN),
    ],
)
def test_class_of_an_error(code: str, message: str, status: int, answer: Answer) -> None:
    assert classify(code, message, status) is answer


@pytest.mark.parametrize("code", ["MessageRejected", "BadRequestException"])
@pytest.mark.parametrize(
    "message",
    [
        "Account is blocked",
        "Sending has been stopped for your account",
        "Your account's ability to send email has been revoked",
        "Your account's ability to send messages has been withdrawn",
        "This account is not allowed to send",
        "Your account is on hold",
        "Your AWS account is currently under a sending pause",
        "Sending pause in effect for account",
        "Sending from this account has been restricted",
        "Your account has been placed on probation",
        "Your account is subject to a review",
        "Message rejected: your account is on hold",
        "Your message cannot be sent because your account is frozen",
        "Account 123456789012 is locked. Check the inbox of the email address of the account.",
        "Sending is currently blocked.",
    ],
)
def test_error_about_the_account_stops_all_sending(code: str, message: str) -> None:
    assert classify(code, message, 400) is Answer.STOP_UNTIL_OPERATOR


@pytest.mark.parametrize("code", ["MessageRejected", "BadRequestException"])
@pytest.mark.parametrize(
    "message",
    [
        "Address blacklisted.",
        "Illegal address",
        "Missing final '@domain'",
        "Address is blocked by the suppression list of your account.",
        "Recipient is blocked. Your account has it on a list.",
        "Message length is more than 10485760 bytes long: the limit of your account.",
        "This account is not allowed to send to this address",
        "Sending is blocked for this address",
        "Could not send to account@example.com",
        "Could not send to mail.account.example.com",
        "The content is not allowed for your account",
    ],
)
def test_error_about_the_email_fails_its_row_even_if_it_names_the_account(code: str, message: str) -> None:
    assert classify(code, message, 400) is Answer.FAIL_ROW


def session() -> botocore.session.Session:
    created = botocore.session.get_session()
    created.set_credentials("test", "secret")
    created.set_config_variable("region", "eu-west-1")
    return created


def test_client_never_repeats_a_request() -> None:
    client = ses_client(session(), "http://127.0.0.1:9")
    assert client.meta.config.retries["total_max_attempts"] == 1
    assert client.meta.config.read_timeout == READ_TIMEOUT
