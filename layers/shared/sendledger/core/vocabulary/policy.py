"""The words of the sending policy and of the plan."""

from __future__ import annotations

from sendledger.core.vocabulary.words import Word


class SenderAddressStatus(Word):
    """Whether campaigns send from an address."""

    ACTIVE = "active", "Campaigns send from it."
    DISABLED = "disabled", "What campaigns have to send from it waits."


class ZoneOf(Word):
    """Whose local time a sending schedule follows."""

    LEAD = "lead", "That of each lead, where it is known; else that of the schedule."
    SCHEDULE = "schedule", "That of the schedule, for all leads."


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
    NO_CONTENT = "no_content", "It has no email template and no workflow yet."
    NO_LEADS = "no_leads", "No lead of it would get mail."
    TAKES_IN_LEADS = "takes_in_leads", "It is evergreen: it takes in further leads."
    NEVER_OPEN = "never_open", "Its sending schedule never opens for some leads."
    A_SENDER_DISABLED = "a_sender_disabled", "A sender is disabled, and its part of the emails waits."
    EMAILS_HELD = "emails_held", "Emails are held since an outage: send or skip them."
    SENDING_STOPPED = "sending_stopped", "All sending is stopped: fix what stopped it, then resume the sender."
    SES_UNKNOWN = "ses_unknown", "SES does not say what may be sent, or lets nothing be sent now."
    TOO_MANY_LANES = "too_many_lanes", "Too many time zones and senders, for too many days. The days so far are right."
    MORE_THAN_400_DAYS = "more_than_400_days", "It takes more than 400 days."
