"""The words of access: roles, and the actions that the audit log names."""

from __future__ import annotations

from sendledger.core.vocabulary.words import Word


class Role(Word):
    """What a caller of the API may do. Each role may do what the ones before it may."""

    VIEWER = "viewer", "Reads."
    EDITOR = "editor", "Prepares leads, content and campaigns."
    SENDER = "sender", "Starts, pauses, resumes and cancels campaigns, and sends."
    ADMIN = "admin", "Manages keys, erases people and changes what is suppressed."


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
    CAMPAIGN_REMOVE_HISTORY = "campaign.remove_history", "Old content, events or the ledger of a campaign was removed."
    CAMPAIGN_RESUME = "campaign.resume", "A campaign was resumed."
    CAMPAIGN_RETRY_FAILED = "campaign.retry_failed", "Failed emails of a campaign were put back."
    CAMPAIGN_REVISION = "campaign.revision", "Leads that come in later get the workflow as it was edited."
    CAMPAIGN_REVISION_REFUSED = (
        "campaign.revision_refused",
        "An edited workflow cannot be sent; leads that come in get it as it was before.",
    )
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
    LEAD_BATCH_IMPORT = "lead_batch.import", "Somebody asked to import or check an uploaded file."
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
