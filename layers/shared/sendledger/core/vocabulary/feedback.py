"""The words of what comes back: suppressions, opt-outs and replies."""

from __future__ import annotations

from sendledger.core.vocabulary.words import Word


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
