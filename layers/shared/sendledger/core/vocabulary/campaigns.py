"""The words of campaigns, their steps and templates."""

from __future__ import annotations

from sendledger.core.vocabulary.words import Word


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


ENDED_CAMPAIGN_STATUSES = (
    CampaignStatus.COMPLETED,
    CampaignStatus.CANCELLED,
    CampaignStatus.FAILED,
    CampaignStatus.ARCHIVED,
)
"""A campaign with one of these sends nothing more, unless a person reopens it."""


OPEN_CAMPAIGN_STATUSES = (CampaignStatus.DRAFT, *UNDER_WAY_STATUSES, CampaignStatus.FAILED)
"""A campaign with one of these needs its lead batches, segments and email template, which cannot be deleted. One that
has failed can be started again."""


WORKFLOW_STATUSES = (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED, CampaignStatus.ACTIVE, CampaignStatus.FAILED)
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


class RemovalKind(Word):
    """What retention removes of a campaign that has ended."""

    CONTENT = "content", "Subjects and texts of its emails."
    EVENTS = "events", "What SES reported of its emails, except what later rules need."
    LEDGER = "ledger", "Its scheduled emails, with their emails and events."


class StepCondition(Word):
    """What must have happened to the email of an earlier step. Only what people do counts; a click is an open, too."""

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


class IntakeOutcome(Word):
    """What became of a lead that was to be added to a campaign."""

    ADDED = "added", "It gets the campaign's emails, from the first step on."
    ALREADY_THERE = "already_there", "The campaign has emails to it already."
    NOT_ADDED = "not_added", "It gets nothing; `reason` says why."
    NO_SUCH_LEAD = "no_such_lead", "There is no such lead."


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


class CountedResult(Word):
    """What is counted by revision, step, variant and sender."""

    EMAILS = "emails", "Scheduled emails of any status."
    SENT = "sent", "Scheduled emails that SES accepted."
    FAILED = "failed", "Scheduled emails that failed."
    SKIPPED = "skipped", "Scheduled emails that a rule stopped."
    CANCELLED = "cancelled", "Scheduled emails that a person stopped."
    DELIVERED = "delivered", "Emails that the recipient's mail server accepted."
    OPENED = "opened", "Emails that were opened."
    CLICKED = "clicked", "Emails in which a link was clicked."
    BOUNCED = "bounced", "Emails that bounced permanently."
    SOFT_BOUNCED = "soft_bounced", "Emails that bounced temporarily and were not delivered."
    COMPLAINED = "complained", "Emails that were reported as spam."
    REPLIED = "replied", "Emails that a person has replied to."
    UNSUBSCRIBED = "unsubscribed", "Emails by which the recipient has opted out."


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
