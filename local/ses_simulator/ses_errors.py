"""The errors of the SESv2 API, as botocore's service model names them: type, HTTP status and SES's own wording.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html#API_SendEmail_Errors
"""

STATUS_BY_TYPE = {
    "AccessDeniedException": 403,
    "AccountSendingPausedException": 400,
    "AccountSuspendedException": 400,
    "BadRequestException": 400,
    "ConfigurationSetSendingPausedException": 400,
    "ConflictException": 409,
    "InternalServiceErrorException": 500,
    "InvalidNextTokenException": 400,
    "LimitExceededException": 400,
    "MailFromDomainNotVerifiedException": 400,
    "MessageRejected": 400,
    "NotFoundException": 404,
    "SendingPausedException": 400,
    "SignatureDoesNotMatch": 403,
    "TooManyRequestsException": 429,
    "UnknownOperationException": 404,
}

RATE_EXCEEDED = "Maximum sending rate exceeded."
DAILY_QUOTA_EXCEEDED = "Daily message quota exceeded."
ACCOUNT_SUSPENDED = "Sending suspended for this account. For more information, please check the inbox of the account."
SENDING_PAUSED = "Email sending is disabled for this account."
ACCOUNT_PAUSED = (
    "Sending paused for this account. For more information, please check the inbox of the email address associated "
    "with your AWS account."
)
SIGNATURE_EXPIRED = (
    "Signature expired: 20261126T120000Z is now earlier than 20261126T125500Z (20261126T130000Z - 5 min.)"
)


class SesError(Exception):
    """An answer of the SES API other than success."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.status = STATUS_BY_TYPE[error_type]


def bad_request(message: str) -> SesError:
    return SesError("BadRequestException", message)


def not_verified(addresses: list[str], region: str) -> SesError:
    return SesError(
        "MessageRejected",
        "Email address is not verified. The following identities failed the check in region "
        f"{region.upper()}: {', '.join(addresses)}",
    )


def configuration_set_not_found(name: str) -> SesError:
    return SesError("NotFoundException", f"Configuration set <{name}> does not exist.")
