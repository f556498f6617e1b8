"""Every word that has a fixed set of values: statuses, reasons, error codes, event types, roles and audit actions.

Each value stands here once, with a sentence that says what it means. CHECK constraints of tables, the types of routes,
the OpenAPI document and the documentation are made from these enums. SQL text spells the values; a test compares.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, Self


class Word(enum.StrEnum):
    """A value and what it means. As a `str` it goes into SQL, JSON and logs as it is."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        word = str.__new__(cls, value)
        word._value_ = value
        word.meaning = meaning
        return word

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """In OpenAPI each value is described."""
        derived = handler(schema)
        return {**derived, "description": f"{(cls.__doc__ or '').strip()}\n\n{described(cls)}"}


def described(words: Iterable[Word]) -> str:
    """Each word with its meaning, for OpenAPI."""
    return "\n".join(f"- `{word}`: {word.meaning}" for word in words)


def quoted(words: Iterable[str]) -> str:
    """The words as a list of SQL literals. They are our own and contain no quote."""
    return ", ".join(f"'{word}'" for word in words)


class CampaignStatus(Word):
    """Where a campaign is in its life."""

    DRAFT = "draft", "Being prepared. Nothing is sent."
    SCHEDULED = "scheduled", "Starts by itself at `scheduled_start_at`."
    RUNNING = "running", "Sends what is due."
    PAUSED = "paused", "Sends nothing until it is resumed."
    COMPLETED = "completed", "Every one of its scheduled emails has a final status."
    CANCELLED = "cancelled", "Ended by a person. Nothing more is sent."
    FAILED = "failed", "Could not start at its time; `failure_reason` says why. It can be changed and started again."
    ARCHIVED = "archived", "Put away by the application that used this database before. Nothing more is sent."
    ACTIVE = "active", "Only written by the application that used this database before; adoption makes it `running`."


STARTABLE_STATUSES = (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED, CampaignStatus.FAILED)
"""A campaign with one of these has written no scheduled email. It can be changed as a whole, and started."""

UNDER_WAY_STATUSES = (CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED, CampaignStatus.ACTIVE)
"""A campaign with one of these sends, or will send. It cannot be deleted."""

OPEN_CAMPAIGN_STATUSES = (CampaignStatus.DRAFT, *UNDER_WAY_STATUSES)
"""A campaign with one of these needs its lead batches and its email template, which cannot be deleted."""

WORKFLOW_STATUSES = (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED, CampaignStatus.ACTIVE)
"""A campaign with one of these needs its workflow; one that has started keeps a copy of the steps."""


class CampaignType(Word):
    """What a campaign is for."""

    OUTREACH = "outreach", "Sends emails to leads."
    LEAD_GENERATION = "lead_generation", "Finds leads; it cannot be started here."
    FULLY_AUTOMATED = "fully_automated", "Finds leads and emails them; it cannot be started here."
    AUTOMATED = "automated", "Only written by the application that used this database before; the same as `outreach`."
    MANUAL = "manual", "Only written by the application that used this database before; the same as `outreach`."


class StartType(Word):
    """How a campaign is started."""

    MANUAL = "manual", "Starts when it is told to."
    SCHEDULED = "scheduled", "Starts at `scheduled_start_at`."


class ScheduledEmailStatus(Word):
    """What became of one row of the ledger."""

    PENDING = "pending", "Waits for its time."
    SENDING = "sending", "A sender has claimed it."
    SENT = "sent", "SES accepted it."
    FAILED = "failed", "It was not sent, or its outcome is unknown; `error_code` says which."
    SKIPPED = "skipped", "A rule said no; `reason` says which."
    CANCELLED = "cancelled", "A person said no: the campaign is paused or was cancelled; `reason` says which."


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
    CONDITION_NOT_MET = "condition_not_met", "What the step depends on has not become of the earlier step."


class StepCondition(Word):
    """What must have become of an earlier step. Only what people do counts; a click counts as an open, too."""

    OPENED = "opened", "It was sent and opened."
    CLICKED = "clicked", "It was sent, and a link in it was clicked."
    DELIVERED = "delivered", "It was sent and delivered."
    NOT_OPENED = "not_opened", "It was sent and has not been opened."
    NOT_CLICKED = "not_clicked", "It was sent, and no link in it has been clicked."


class WinnerBy(Word):
    """Which share of the sent test emails decides the winner of a step's variants. Only what people do counts."""

    REPLIED = "replied", "The share that was replied to."
    CLICKED = "clicked", "The share in which a link was clicked."
    OPENED = "opened", "The share that was opened, or in which a link was clicked."
    DELIVERED = "delivered", "The share that was delivered."


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


class LeadStatus(Word):
    """How far a lead is."""

    NEW = "new", "Nothing was sent to this lead yet."
    CONTACTED = "contacted", "The first step was sent."
    FOLLOW_UP_1 = "follow_up_1", "The second step was sent."
    FOLLOW_UP_2 = "follow_up_2", "The third step or a later one was sent."
    RESPONDED = "responded", "The lead replied. Campaigns send it nothing more."
    INTERESTED = "interested", "The lead is interested. Campaigns go on sending."
    NOT_INTERESTED = "not_interested", "The lead is not interested. Campaigns send it nothing more."
    INVALID = "invalid", "The lead is not usable. Campaigns send it nothing more."
    CONVERTED = "converted", "The lead is a customer. Campaigns send it nothing more."


LEAD_STATUSES_WITHOUT_MAIL = (
    LeadStatus.RESPONDED,
    LeadStatus.NOT_INTERESTED,
    LeadStatus.CONVERTED,
    LeadStatus.INVALID,
)
"""A lead with one of these gets nothing from any campaign; the reason is its status behind `lead_`."""


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


class Counted(Word):
    """What is counted for each campaign: scheduled emails by status, and emails by result."""

    PENDING = "pending", "Scheduled emails that wait for their time."
    SENDING = "sending", "Scheduled emails that a sender has claimed."
    SENT = "sent", "Scheduled emails that SES accepted."
    FAILED = "failed", "Scheduled emails that failed."
    SKIPPED = "skipped", "Scheduled emails that a rule stopped."
    CANCELLED = "cancelled", "Scheduled emails that a person stopped."
    DELIVERED = "delivered", "Emails that the recipient's mail server accepted."
    OPENED = "opened", "Emails that were opened."
    CLICKED = "clicked", "Emails in which a link was clicked."
    BOUNCED = "bounced", "Emails that bounced permanently."
    SOFT_BOUNCED = "soft_bounced", "Emails that bounced temporarily and were not delivered."


class SuppressionReason(Word):
    """Why an address or a domain is suppressed."""

    BOUNCE = "bounce", "An email to it bounced permanently."
    TRANSIENT_BOUNCES = "transient_bounces", "Emails to it bounced several times."
    COMPLAINT = "complaint", "The recipient reported an email as spam."
    UNSUBSCRIBE = "unsubscribe", "The recipient opted out."
    MANUAL = "manual", "A person added it."
    IMPORT = "import", "It came with an imported list."


class UnsubscribeScope(Word):
    """What a recipient opted out of."""

    CAMPAIGN = "campaign", "This campaign."
    EVERYTHING = "everything", "All campaigns."


class UnsubscribeMethod(Word):
    """How a recipient opted out."""

    ONE_CLICK = "one_click", "By the mail program's own button (RFC 8058)."
    PAGE = "page", "On the unsubscribe page."
    SES = "ses", "In the list management of SES."
    REPLY = "reply", "In a reply, as the team read it."


class CampaignContact(Word):
    """What a campaign and a lead have had to do with each other, in the conditions of segments."""

    RECEIVED = "received", "The campaign sent the lead an email."
    OPENED = "opened", "The lead opened one of its emails."
    CLICKED = "clicked", "The lead clicked a link in one of its emails."
    REPLIED = "replied", "The lead replied to it; automatic answers do not count."


class ReplySource(Word):
    """How a reply came in."""

    SES = "ses", "As a mail that SES received."
    API = "api", "By the API, from another mail system."


class ReplyMatch(Word):
    """How the lead of a reply was found."""

    TOKEN = "token", "By the signed token in the address that it was sent to."
    MESSAGE_ID = "message_id", "By the id of the email that it answers."
    ADDRESS = "address", "By the sender's address."


class AutomaticKind(Word):
    """Why a reply is not a person's; such a reply stops nothing."""

    SPAM = "spam", "SES found spam or a virus in it."
    DELIVERY_REPORT = "delivery_report", "It reports on the delivery or the reading of an email."
    CALENDAR = "calendar", "It is the answer of a calendar to an invitation."
    AUTO_SUBMITTED = "auto_submitted", "Its header `Auto-Submitted` says so (RFC 3834)."
    X_AUTOREPLY = "x_autoreply", "A header such as `X-Autoreply` or `X-Autorespond` says so."
    PRECEDENCE = "precedence", "Its header `Precedence` says so."
    EMPTY_RETURN_PATH = "empty_return_path", "Its envelope has no sender, as in mail that must not be answered."
    SUBJECT = "subject", "Its subject is one that mail systems give to automatic replies."
    MAILING_LIST = "mailing_list", "It came through a mailing list, and answers none of our emails."
    FORGED = "forged", "By DMARC it is not from its sender's domain, and it has no token."


class ReplyKind(Word):
    """What a reply is, for those who work through them."""

    HUMAN = "human", "A person wrote it."
    UNSUBSCRIBE_REQUEST = "unsubscribe_request", "A person wrote it, and all that it says is to stop."
    OUT_OF_OFFICE = "out_of_office", "An automatic answer of a person who is away, for example."
    DELIVERY_REPORT = "delivery_report", "It reports on the delivery or the reading of an email."
    OTHER = "other", "Spam, a forgery, mail of a list, the answer of a calendar."


class ReplyOutcome(Word):
    """What the team makes of a reply."""

    INTERESTED = "interested", "The lead becomes `interested`. What the reply has stopped stays stopped."
    NOT_INTERESTED = "not_interested", "The lead becomes `not_interested`: campaigns send it nothing more."
    LATER = "later", "Not now. With `later_until` the remaining steps of the campaign go out from then on."
    WRONG_PERSON = "wrong_person", "The lead becomes `invalid`: campaigns send it nothing more."
    UNSUBSCRIBE = "unsubscribe", "The address is suppressed, and the lead becomes `not_interested`."


class LeadEvent(Word):
    """What happened with a lead."""

    IMPORTED = "imported", "It was stored."
    EDITED = "edited", "Fields of it were changed; `fields` names them."
    SCHEDULED = "scheduled", "An email to it was planned."
    SENT = "sent", "SES accepted an email to it."
    FAILED = "failed", "An email to it failed; `reason` is its error code."
    SKIPPED = "skipped", "A rule stopped an email; `reason` says which."
    CANCELLED = "cancelled", "A person stopped an email."
    DELIVERED = "delivered", "The recipient's mail server accepted an email."
    DELAYED = "delayed", "The delivery of an email is delayed."
    BOUNCED = "bounced", "The recipient's mail server refused an email."
    COMPLAINED = "complained", "The recipient reported an email as spam."
    OPENED = "opened", "An email was opened; `is_machine` says whether by a program."
    CLICKED = "clicked", "A link in an email was clicked; `is_machine` says whether by a program."
    REPLIED = "replied", "A reply came in; `reason` is what the team made of it."
    UNSUBSCRIBED = "unsubscribed", "The recipient opted out; `reason` says of what."
    SUPPRESSED = "suppressed", "Its address or its domain was suppressed; `reason` says why."
    UNSUPPRESSED = "unsuppressed", "A suppression of it was removed."
    ERASED = "erased", "It was erased."


class AuthenticationResult(Word):
    """The result of checking a message by SPF, DKIM or DMARC (RFC 8601)."""

    PASS = "pass", "The message is from its stated domain."
    FAIL = "fail", "It is not."
    SOFTFAIL = "softfail", "It is probably not."
    NEUTRAL = "neutral", "The domain makes no statement."
    POLICY = "policy", "It would pass without a rule of the receiver."
    NONE = "none", "The domain has set up no such check."
    TEMPERROR = "temperror", "The check failed temporarily."
    PERMERROR = "permerror", "The domain has set the check up wrongly."


class TimeZoneSource(Word):
    """Where it is known from what time it is for a lead."""

    LEAD = "lead", "From the lead's own `time_zone`."
    COUNTRY = "country", "From its country, which has exactly one."
    SCHEDULE = "schedule", "From neither: the time zone of the sending schedule counts."


class SenderAddressStatus(Word):
    """Whether campaigns send from an address."""

    ACTIVE = "active", "Campaigns send from it."
    DISABLED = "disabled", "What campaigns have to send from it waits."


class ZoneOf(Word):
    """Whose local time a sending schedule goes by."""

    LEAD = "lead", "That of each lead, where it is known; else that of the schedule."
    SCHEDULE = "schedule", "That of the schedule, for all leads."


class ColumnUse(Word):
    """What a column of a file of leads is."""

    EMAIL = "email", "The address. Of several columns the first valid one counts."
    COMPANY_NAME = "company_name", "The lead's company."
    CONTACT_NAME = "contact_name", "The lead's whole name."
    FIRST_NAME = "first_name", "The lead's first name."
    LAST_NAME = "last_name", "The lead's last name."
    JOB_TITLE = "job_title", "What the lead does in the company."
    INDUSTRY = "industry", "The company's industry."
    BUSINESS_TYPE = "business_type", "The company's type of business."
    CITY = "city", "The lead's or the company's city."
    COUNTRY = "country", "The lead's or the company's country."
    ADDRESS = "address", "The street address."
    WEBSITE = "website", "The company's website."
    PHONE = "phone", "A telephone number."
    LINKEDIN_URL = "linkedin_url", "The lead's page on LinkedIn."
    COMPANY_SIZE = "company_size", "How many people work for the company."
    TIME_ZONE = "time_zone", "The lead's time zone, a name of the IANA database."
    NOTES = "notes", "Notes about the lead."
    TAGS = "tags", "The lead's tags, with commas between them."
    CUSTOM_FIELDS = "custom_fields", "A custom field with the name of the column."
    IGNORED = "ignored", "Nothing: the column is left out."


class Bottleneck(Word):
    """What keeps more emails of a campaign from going out on a day."""

    WINDOW = "window", "The sending schedule is closed."
    SENDER_CAP = "sender_cap", "Its senders may not send more on that day."
    NEW_LEADS_PER_DAY = "new_leads_per_day", "No more leads may get their first email on that day."
    NEW_LEADS_PER_COMPANY_PER_DAY = (
        "new_leads_per_company_per_day",
        "No more leads of one company may get their first email on that day.",
    )
    SES_RATE = "ses_rate", "SES takes no more emails a second."
    SES_DAILY_QUOTA = "ses_daily_quota", "SES takes no more emails in 24 hours."


class NoForecast(Word):
    """Why it cannot be said when the last email of a campaign will have gone."""

    CAMPAIGN_PAUSED = "campaign_paused", "It is paused: resume it."
    CAMPAIGN_ENDED = "campaign_ended", "It is cancelled, has failed to start, or is archived: nothing more is sent."
    EMAILS_BEING_PREPARED = "emails_being_prepared", "Its emails are still being prepared."
    NO_LEADS = "no_leads", "No lead of it would get mail."
    LEADS_OF_COMPANIES = (
        "leads_of_companies",
        "It has a cap of new leads of one company a day, which the days do not take into account.",
    )
    TAKES_IN_LEADS = "takes_in_leads", "It is evergreen: it takes in further leads."
    NEVER_OPEN = "never_open", "Its sending schedule never opens for some leads."
    A_SENDER_DISABLED = "a_sender_disabled", "A sender is disabled, and its part of the emails waits."
    EMAILS_HELD = "emails_held", "Emails are held since an outage: send or skip them."
    SES_UNKNOWN = "ses_unknown", "SES does not say what may be sent, or lets nothing be sent now."
    MORE_THAN_400_DAYS = "more_than_400_days", "It takes more than 400 days."


class LeadBatchStatus(Word):
    """How far an import is."""

    PENDING = "pending", "Waits for its file or for the start of the import."
    IMPORTING = "importing", "Rows are being imported."
    COMPLETED = "completed", "All rows of the file are done."
    FAILED = "failed", "The import could not go on; `failure_reason` says why."
    DELETING = "deleting", "The batch and its leads are being deleted."


class RejectCode(Word):
    """Why a row of a file is not imported, or a value of it is left out."""

    INVALID_EMAIL = "invalid_email", "The row has no address that SES could send to."
    MISSING_EMAIL = "missing_email", "The row has no address."
    OPTED_OUT = "opted_out", "The file says that this person must not be mailed. The address is suppressed instead."
    TOO_MANY_FIELDS = "too_many_fields", "The row has more fields than the header."
    BROKEN_QUOTE = "broken_quote", "A quotation mark in a quoted field is not doubled."
    UNCLOSED_QUOTE = "unclosed_quote", "A quotation mark is not closed."
    FIELD_TOO_LONG = "field_too_long", "A field is longer than a file may have."
    TOO_LONG = "too_long", "The value is too long; the lead is imported without it."
    TOO_MANY = "too_many", "The lead has too many tags; it is imported without them."
    CONTROL_CHARACTER = "control_character", "The value contains a control character; the lead is imported without it."
    DAMAGED_TEXT = "damaged_text", "A character of the value was lost; the lead is imported without it."
    UNKNOWN_TIME_ZONE = "unknown_time_zone", "The row has a time zone that the IANA database does not have."


class ExportKind(Word):
    """What an export contains."""

    LEADS = "leads", "Leads with their fields."
    CAMPAIGN_LEDGER = "campaign_ledger", "Each scheduled email of a campaign, and each lead that was left out."


class ExportReader(Word):
    """Which program an export is made for, where that matters."""

    EXCEL = "excel", "Microsoft Excel: the file begins with a byte order mark, which tells Excel that it is UTF-8."


class ExportStatus(Word):
    """How far an export is."""

    PENDING = "pending", "Waits to be written."
    RUNNING = "running", "Rows are being written."
    COMPLETED = "completed", "The file can be downloaded."
    FAILED = "failed", "The export could not go on; `failure_reason` says why."


class Role(Word):
    """What a caller of the API may do. Each role may do what the ones before it may."""

    VIEWER = "viewer", "Reads."
    EDITOR = "editor", "Prepares leads, content and campaigns."
    SENDER = "sender", "Starts, pauses, resumes and cancels campaigns, and sends."
    ADMIN = "admin", "Manages keys, erases people and changes what is suppressed."


class TemplateCategory(Word):
    """What an email template is for. It has no effect."""

    INITIAL_OUTREACH = "initial_outreach", "The first email to a lead."
    FOLLOW_UP = "follow_up", "A follow-up."
    MEETING_REQUEST = "meeting_request", "Asks for a meeting."
    INTRODUCTION = "introduction", "Introduces somebody."
    PRODUCT_DEMO = "product_demo", "Offers a demonstration."
    PARTNERSHIP = "partnership", "Proposes a partnership."
    GENERAL = "general", "Anything."
    OTHER = "other", "Anything else."


class WebhookEventType(Word):
    """What happened, as an outgoing webhook says it. An endpoint gets the types that it lists and no others."""

    CAMPAIGN_STARTED = "campaign.started", "A campaign runs."
    CAMPAIGN_PAUSED = "campaign.paused", "A campaign was paused; `reason` says why if nobody did it."
    CAMPAIGN_RESUMED = "campaign.resumed", "A paused or completed campaign runs again."
    CAMPAIGN_COMPLETED = "campaign.completed", "Each email of a campaign has a final status."
    CAMPAIGN_CANCELLED = "campaign.cancelled", "A campaign was cancelled."
    CAMPAIGN_FAILED = "campaign.failed", "A campaign could not start."
    EMAIL_SENT = "email.sent", "SES has taken an email. One for each email."
    EMAIL_FAILED = "email.failed", "An email was not sent, or it is not known."
    EMAIL_DELIVERED = "email.delivered", "A mail server has taken an email. One for each email."
    EMAIL_BOUNCED = "email.bounced", "An email bounced."
    EMAIL_COMPLAINED = "email.complained", "An email was reported as spam."
    EMAIL_OPENED = "email.opened", "A person opened an email. One for each time."
    EMAIL_CLICKED = "email.clicked", "A person clicked on a link. One for each time."
    LEAD_REPLIED = "lead.replied", "A person replied."
    LEAD_UNSUBSCRIBED = "lead.unsubscribed", "A lead opted out."
    LEAD_SUPPRESSED = "lead.suppressed", "An address or a domain was suppressed. One for each entry of a list."
    IMPORT_COMPLETED = "import.completed", "An import has ended; `status` says how."
    EXPORT_COMPLETED = "export.completed", "An export has ended; `status` says how."
    SENDER_STOPPED = "sender.stopped", "Nothing is sent until somebody acts, or until `stopped_until`."
    WEBHOOK_TEST = "webhook.test", "Somebody has asked for a test. Every endpoint gets those."


class WebhookOutcome(Word):
    """What became of one attempt to deliver an event."""

    DELIVERED = "delivered", "The endpoint answered with a status of 200 to 299."
    FAILED = "failed", "It answered with another status, or there was no answer."
    UNTRIED = "untried", "There was no attempt, as another event had failed before."


class WebhookDeliveryStatus(Word):
    """What became of one event for one endpoint."""

    PENDING = "pending", "Waits to be delivered, for the first time or again."
    DELIVERED = "delivered", "The endpoint answered with a status of 200 to 299."
    FAILED = "failed", "Given up after 24 hours of attempts. It can be replayed."


class IntakeOutcome(Word):
    """What became of a lead that was to be added to a campaign."""

    ADDED = "added", "It gets the campaign's emails, from the first step on."
    ALREADY_THERE = "already_there", "The campaign has emails to it already."
    NOT_ADDED = "not_added", "It gets nothing; `reason` says why."
    NO_SUCH_LEAD = "no_such_lead", "There is no such lead."


class AuditAction(Word):
    """What was done, in the audit log."""

    API_KEY_CREATE = "api_key.create", "An API key was created."
    API_KEY_REVOKE = "api_key.revoke", "An API key was revoked."
    CONSOLE_SIGN_IN = "console.sign_in", "Somebody signed in to the console with an API key."
    CAMPAIGN_ADOPT = "campaign.adopt", "A campaign of an existing installation was taken over."
    CAMPAIGN_CANCEL = "campaign.cancel", "A campaign was cancelled."
    CAMPAIGN_COMPLETE = "campaign.complete", "A campaign was completed."
    CAMPAIGN_CREATE = "campaign.create", "A campaign was created."
    CAMPAIGN_DELETE = "campaign.delete", "A campaign was deleted."
    CAMPAIGN_FAIL = "campaign.fail", "A campaign failed."
    CAMPAIGN_FINISH = "campaign.finish", "The intake of a campaign was ended."
    CAMPAIGN_LEADS_ADD = "campaign.leads_add", "Leads were added to a campaign under way."
    CAMPAIGN_LEAD_REMOVE = "campaign.lead_remove", "A lead was taken out of a campaign that is under way."
    CAMPAIGN_PAUSE = "campaign.pause", "A campaign was paused."
    CAMPAIGN_RESUME = "campaign.resume", "A campaign was resumed."
    CAMPAIGN_RETRY_FAILED = "campaign.retry_failed", "Failed emails of a campaign were put back."
    CAMPAIGN_SCHEDULE = "campaign.schedule", "A campaign was told to start later."
    CAMPAIGN_START = "campaign.start", "A campaign was started."
    CAMPAIGN_UNSCHEDULE = "campaign.unschedule", "A scheduled campaign became a draft again."
    CAMPAIGN_UPDATE = "campaign.update", "Fields of a campaign were changed."
    CAMPAIGN_VARIANT_RETIRE = "campaign.variant_retire", "A variant of a step was retired."
    CAMPAIGN_WINNER = (
        "campaign.winner",
        "The winner of a step's variants was decided; without one they are split equally.",
    )
    CONFIRMATION_CREATE = "confirmation.create", "A person confirmed one operation for somebody else."
    EMAIL_TEMPLATE_ATTACH = "email_template.attach", "A file was attached to an email template."
    EMAIL_TEMPLATE_CREATE = "email_template.create", "An email template was created."
    EMAIL_TEMPLATE_DELETE = "email_template.delete", "An email template was deleted."
    EMAIL_TEMPLATE_DETACH = "email_template.detach", "An attachment of an email template was removed."
    EMAIL_TEMPLATE_TEST_SEND = "email_template.test_send", "An email template was sent as a test."
    EMAIL_TEMPLATE_UPDATE = "email_template.update", "An email template was changed."
    EXPORT_CREATE = "export.create", "An export was requested."
    LATE_EMAILS_SEND = "campaign.late_emails.send", "Held emails of a campaign were released."
    LATE_EMAILS_SKIP = "campaign.late_emails.skip", "Held emails of a campaign were skipped."
    LEAD_BULK_CHANGE = "lead.bulk_change", "Tags or custom fields of many leads were changed."
    LEAD_DELETE = "lead.delete", "A lead was deleted."
    LEAD_ERASE = "lead.erase", "A lead was erased."
    LEAD_REPLY = "lead.reply", "A lead replied."
    LEAD_UPDATE = "lead.update", "Fields of a lead were changed."
    LEAD_UNSUBSCRIBE = "lead.unsubscribe", "A lead opted out."
    LEAD_UNSUBSCRIBE_UNDO = "lead.unsubscribe_undo", "A lead took an opt-out back."
    LEAD_BATCH_DELETE = "lead_batch.delete", "A lead batch was deleted with its leads."
    REPLY_ANSWER = "reply.answer", "An answer to a reply was written; it is sent with the next tick."
    REPLY_UPDATE = "reply.update", "The outcome of a reply was set."
    SCHEDULED_EMAIL_CREATE = "scheduled_email.create", "An email was added to a running campaign."
    SCHEDULED_EMAIL_DOUBLE_SEND = "scheduled_email.double_send", "SES reported two messages for one scheduled email."
    SCHEDULED_EMAIL_MARK_SENT = "scheduled_email.mark_sent", "An email of unknown outcome was marked as sent."
    SCHEDULED_EMAIL_REQUEUE = "scheduled_email.requeue", "An email of unknown outcome was put back."
    SCHEDULED_EMAIL_SEND = "scheduled_email.send", "An email was sent at once."
    SEGMENT_CREATE = "segment.create", "A segment was created."
    SEGMENT_DELETE = "segment.delete", "A segment was deleted."
    SEGMENT_UPDATE = "segment.update", "A segment was changed."
    SENDER_RESUME = "sender.resume", "Sending was resumed after a stop."
    SENDER_ADDRESS_CREATE = "sender_address.create", "A sender was created."
    SENDER_ADDRESS_DELETE = "sender_address.delete", "A sender was deleted."
    SENDER_ADDRESS_REASSIGN = "sender_address.reassign", "Leads of a sender were handed over to another one."
    SENDER_ADDRESS_UPDATE = "sender_address.update", "A sender was changed."
    SENDING_SCHEDULE_CREATE = "sending_schedule.create", "A sending schedule was created."
    SENDING_SCHEDULE_DELETE = "sending_schedule.delete", "A sending schedule was deleted."
    SENDING_SCHEDULE_UPDATE = "sending_schedule.update", "A sending schedule was changed."
    SUPPRESSION_ADD = "suppression.add", "An address or a domain was suppressed."
    SUPPRESSION_IMPORT = "suppression.import", "A list of suppressions was imported."
    SUPPRESSION_REMOVE = "suppression.remove", "A suppression was removed."
    WEBHOOK_ENDPOINT_CREATE = "webhook_endpoint.create", "A webhook endpoint was created."
    WEBHOOK_ENDPOINT_DELETE = "webhook_endpoint.delete", "A webhook endpoint was deleted."
    WEBHOOK_ENDPOINT_DISABLE = "webhook_endpoint.disable", "A webhook endpoint was disabled after a day of failures."
    WEBHOOK_ENDPOINT_REPLAY = "webhook_endpoint.replay", "Events of a webhook endpoint are delivered once more."
    WEBHOOK_ENDPOINT_ROTATE = "webhook_endpoint.rotate_secret", "A webhook endpoint got another secret."
    WEBHOOK_ENDPOINT_UPDATE = "webhook_endpoint.update", "A webhook endpoint was changed."
    WORKFLOW_CREATE = "workflow.create", "A workflow was created."
    WORKFLOW_DELETE = "workflow.delete", "A workflow was deleted."
    WORKFLOW_UPDATE = "workflow.update", "A workflow was changed."
