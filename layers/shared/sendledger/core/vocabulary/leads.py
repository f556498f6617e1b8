"""The words of leads: their status, what happens with them, and where their time zone is known from."""

from __future__ import annotations

from sendledger.core.vocabulary.words import Word


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


class CampaignContact(Word):
    """How a lead has had contact with a campaign, in the conditions of segments."""

    RECEIVED = "received", "The campaign sent the lead an email."
    OPENED = "opened", "The lead opened one of its emails."
    CLICKED = "clicked", "The lead clicked a link in one of its emails."
    REPLIED = "replied", "The lead replied to it; automatic answers do not count."


class TimeZoneSource(Word):
    """Where the time zone of a lead is known from."""

    LEAD = "lead", "From the lead's own `time_zone`."
    COUNTRY = "country", "From its country, which has exactly one."
    SCHEDULE = "schedule", "From neither: the time zone of the sending schedule counts."
