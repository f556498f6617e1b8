"""The words of the ledger: what becomes of a scheduled email, of the email, and why."""

from __future__ import annotations

from sendledger.core.vocabulary.words import Word


class ScheduledEmailStatus(Word):
    """What became of one row of the ledger."""

    PENDING = "pending", "Waits for its time."
    SENDING = "sending", "A sender has claimed it."
    SENT = "sent", "SES accepted it."
    FAILED = "failed", "It was not sent, or its outcome is unknown; `error_code` says which."
    SKIPPED = "skipped", "A rule stopped it; `reason` says which."
    CANCELLED = "cancelled", "A person stopped it: the campaign is paused or was cancelled; `reason` says which."


TERMINAL_STATUSES = (
    ScheduledEmailStatus.SENT,
    ScheduledEmailStatus.FAILED,
    ScheduledEmailStatus.SKIPPED,
    ScheduledEmailStatus.CANCELLED,
)
"""A campaign is complete when every one of its scheduled emails has one of these."""


class Reason(Word):
    """Why a scheduled email is skipped or cancelled."""

    PAUSED = "paused", "The campaign is paused; a resume makes it pending again."
    CAMPAIGN_CANCELLED = "campaign_cancelled", "The campaign was cancelled or has failed."
    NO_ADDRESS = "no_address", "The lead has no email address."
    INVALID_ADDRESS = "invalid_address", "The lead's email address is not valid."
    DUPLICATE_ADDRESS = "duplicate_address", "Another lead of this campaign has the same address."
    LEAD_DELETED = "lead_deleted", "The lead was deleted."
    LEAD_ERASED = "lead_erased", "The lead was erased."
    LEAD_RESPONDED = "lead_responded", "The lead has responded."
    LEAD_NOT_INTERESTED = "lead_not_interested", "The lead is not interested."
    LEAD_CONVERTED = "lead_converted", "The lead is a customer."
    LEAD_INVALID = "lead_invalid", "The lead is marked as invalid."
    SUPPRESSED = "suppressed", "The address or its domain is suppressed: opted out, bounced, complained or blocked."
    REPLIED = "replied", "The lead replied to an earlier email."
    PREVIOUS_STEP_FAILED = "previous_step_failed", "An earlier step to this lead failed."
    LATER_STEP_SENT = "later_step_sent", "The application before this one had sent the lead a later step already."
    SKIPPED_BEFORE = "skipped_before", "The application before this one had skipped or cancelled it."
    LATE = "late", "It was overdue after an outage, and an operator decided not to send it."
    LEAD_REMOVED = "lead_removed", "The lead was taken out of the campaign."
    CONDITION_NOT_MET = "condition_not_met", "The condition of the step does not hold for the earlier step."


LEFT_OUT_REASONS = (
    Reason.NO_ADDRESS,
    Reason.INVALID_ADDRESS,
    Reason.LEAD_RESPONDED,
    Reason.LEAD_NOT_INTERESTED,
    Reason.LEAD_CONVERTED,
    Reason.LEAD_INVALID,
    Reason.SUPPRESSED,
    Reason.DUPLICATE_ADDRESS,
)
"""Why a start leaves a lead out."""


class ErrorCode(Word):
    """Why a scheduled email failed. Any other code is a code of SES in snake case."""

    OUTCOME_UNKNOWN = "outcome_unknown", "The sender got no answer; SES may have accepted the email."
    SENDER_DIED = "sender_died", "Senders died repeatedly while they prepared this email."
    NOT_COMPOSED = "not_composed", "The email could not be composed."
    CANNOT_SIGN = "cannot_sign", "The request to SES could not be signed."
    CANNOT_CONNECT = "cannot_connect", "SES could not be reached."
    BAD_CERTIFICATE = "bad_certificate", "The certificate of the SES endpoint is not valid."
    EMPTY_SUBJECT = "empty_subject", "The subject is empty for this lead."
    EMPTY_BODY = "empty_body", "The email has no text for this lead."
    NOT_TEXT = "not_text", "The template prints a list or an object."
    NOT_A_LIST = "not_a_list", "The template loops over a value that is not a list."
    FILES_UNREACHABLE = "files_unreachable", "The attachments could not be read; it is tried again."
    INVALID_CONTENT = "invalid_content", "The stored template of this step is not valid; the campaign is paused."
    UNDEFINED_VARIABLE = "undefined_variable", "The template uses a variable that this lead has no value for."
    TEMPLATE_ERROR = "template_error", "The template failed for this lead."
    TOO_LONG = "too_long", "The email, or a value in it, is too long."
    SUBJECT_TOO_LONG = "subject_too_long", "The subject is too long."
    CONTROL_CHARACTER = "control_character", "The email contains a character that cannot be stored or sent."


class EmailStatus(Word):
    """The status of an email as the application that used this database before knows it."""

    QUEUED = "queued", "Not sent yet."
    SENT = "sent", "SES accepted it."
    DELIVERED = "delivered", "The recipient's mail server accepted it."
    OPENED = "opened", "It was opened."
    CLICKED = "clicked", "A link in it was clicked."
    BOUNCED = "bounced", "It bounced."
    FAILED = "failed", "It was not sent."
    SPAM = "spam", "The recipient reported it as spam."


class DeliveryStatus(Word):
    """The delivery status that SES reports. It only moves forward."""

    SENT = "sent", "SES accepted it."
    DELAYED = "delayed", "Delivery is delayed; SES goes on trying."
    SOFT_BOUNCED = "soft_bounced", "It bounced temporarily. A later delivery replaces this."
    DELIVERED = "delivered", "The recipient's mail server accepted it. An out-of-office answer does not change that."
    BOUNCED = "bounced", "The recipient's mail server refused it permanently."
    COMPLAINED = "complained", "The recipient reported it as spam."


class EventType(Word):
    """An event of SES, as SES spells it."""

    SEND = "Send", "SES accepted the email."
    DELIVERY = "Delivery", "The recipient's mail server accepted the email."
    BOUNCE = "Bounce", "The recipient's mail server refused the email."
    COMPLAINT = "Complaint", "The recipient reported the email as spam."
    REJECT = "Reject", "SES did not deliver the email, as it contains a virus."
    OPEN = "Open", "The email was opened."
    CLICK = "Click", "A link in the email was clicked."
    RENDERING_FAILURE = "Rendering Failure", "SES could not render the email."
    DELIVERY_DELAY = "DeliveryDelay", "Delivery is delayed; SES goes on trying."
    SUBSCRIPTION = "Subscription", "The recipient changed a subscription that SES manages."
