"""The words of outgoing webhooks."""

from __future__ import annotations

from sendledger.core.vocabulary.words import Word


class WebhookEventType(Word):
    """What happened, as an outgoing webhook says it. An endpoint gets the types that it lists and no others."""

    CAMPAIGN_STARTED = "campaign.started", "A campaign runs."
    CAMPAIGN_PAUSED = "campaign.paused", "A campaign was paused; `reason` says why if nobody did it."
    CAMPAIGN_RESUMED = "campaign.resumed", "A paused or completed campaign runs again."
    CAMPAIGN_COMPLETED = "campaign.completed", "Each email of a campaign has a final status."
    CAMPAIGN_CANCELLED = "campaign.cancelled", "A campaign was cancelled."
    CAMPAIGN_FAILED = "campaign.failed", "A campaign could not start."
    EMAIL_SENT = "email.sent", "SES has taken an email. One for each email."
    EMAIL_FAILED = "email.failed", "An email was not sent, or its outcome is unknown."
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
