"""Campaigns of the weeks before, so that the console has something to show.

One has completed, one is under way and one is paused.

They are made through the HTTP API. What was sent is written into the database as if it had been sent then: no email of
theirs goes anywhere.
"""

from __future__ import annotations

import sqlalchemy as sa

from local.api_client import ApiClient

WEEKS = 4
LEADS = 240
"""Of each campaign."""
_HEADER = "Email,First Name,Last Name,Company,Job Title,Industry,City,Website,booking_tool"
_ROW = "lea@{name}.example,Lea,Berg {n},Practice {n},Owner,Dentist,{city},https://{name}.example,paper"
_STEPS = (("introduction", 0), ("follow_up", 7), ("last_word", 30))
"""Email template of the demo, and the days after the step before it. The last one is still to come."""
CAMPAIGNS = {
    "Spring fair, thank you": "Spring fair, Leeds",
    "Autumn fair follow-up": "Autumn fair, Bristol",
    "Booking widget, second wave": "Practices that asked, York",
}
"""Each with its lead batch, which ends in a city. The first has completed with its only step. The second is under way,
the third is paused, both with two of three steps sent."""

# The leads were there before. The steps went out over weeks: in the mornings, the second a week after the first.
_BEGUN = sa.text("""
    WITH campaign AS (
        UPDATE campaigns SET created_at = now() - interval '1 day' * (:days + 1),
                             actual_started_at = now() - interval '1 day' * :days
        WHERE id = :campaign RETURNING batch_ids
    ), rows AS (
        UPDATE scheduled_emails SET created_at = now() - interval '1 day' * :days WHERE campaign_id = :campaign
    ), batches AS (
        UPDATE lead_batches SET created_at = now() - interval '1 day' * (:days + 2)
        WHERE id IN (SELECT unnest(batch_ids) FROM campaign)
    )
    UPDATE leads SET created_at = now() - interval '1 day' * (:days + 2)
    WHERE batch_id IN (SELECT unnest(batch_ids) FROM campaign)
""")
_SENT = sa.text("""
    WITH planned AS (
        SELECT id, lead_id, campaign_id, workflow_step_number,
               date_trunc('day', now()) - interval '1 day' * (8 + mod(abs(hashtext(lead_id::text)), :days - 8))
                   + interval '7 days' * (workflow_step_number - 1)
                   + interval '8 hours' + interval '1 minute' * mod(id * 613, 200) AS at
        FROM scheduled_emails WHERE campaign_id = :campaign AND workflow_step_number <= :steps_sent
    ), handed AS (
        INSERT INTO emails (scheduled_email_id, campaign_id, lead_id, to_address, subject, body_text, status, sent_at,
                            external_id)
        SELECT p.id, p.campaign_id, p.lead_id, l.email, 'A place for ' || l.company_name, 'Dear ' || l.contact_name,
               'delivered', p.at AT TIME ZONE 'UTC', 'm-' || p.id
        FROM planned p JOIN leads l ON l.id = p.lead_id
        RETURNING id, scheduled_email_id
    )
    UPDATE scheduled_emails s SET status = 'sent', sent_at = p.at, email_id = h.id, ses_message_id = 'm-' || s.id
    FROM planned p JOIN handed h ON h.scheduled_email_id = p.id WHERE s.id = p.id
""")
# The last step is due as long after the step before it as the workflow says.
_TO_COME = sa.text("""
    UPDATE scheduled_emails s SET scheduled_for = before.sent_at + interval '1 day' * :last_delay
    FROM scheduled_emails before
    WHERE s.campaign_id = :campaign AND s.status = 'pending' AND s.workflow_step_number = :steps_sent + 1
      AND before.campaign_id = :campaign AND before.lead_id = s.lead_id AND before.workflow_step_number = :steps_sent
""")
_REPORTED = sa.text("""
    UPDATE emails SET
        delivered_at = CASE WHEN mod(scheduled_email_id, 61) > 0 THEN sent_at + interval '1 minute' END,
        bounced_at = CASE WHEN mod(scheduled_email_id, 61) = 0 THEN sent_at + interval '1 minute' END,
        opened_at = CASE WHEN mod(scheduled_email_id, 5) < 2 THEN sent_at + interval '3 hours' END,
        clicked_at = CASE WHEN mod(scheduled_email_id, 11) = 0 THEN sent_at + interval '3 hours' END
    WHERE campaign_id = :campaign
""")
# To some of the last emails. Who replies gets no further one.
_REPLIED = sa.text("""
    WITH replied AS (
        INSERT INTO replies (message_id, source, from_address, subject, body_text, matched_by, lead_id, campaign_id,
                             email_id, emails_skipped, created_at, handled_at, handled_by)
        SELECT 'demo-' || scheduled_email_id, 'api', to_address, 'Re: ' || subject,
               (ARRAY['That sounds good. Can you call me on Monday?', 'Not for us at the moment, thank you.',
                      'How much is it for a practice with three chairs?'])[1 + mod(number, 3)],
               'message_id', lead_id, campaign_id, id,
               (SELECT count(*) FROM scheduled_emails p
                WHERE p.lead_id = last.lead_id AND p.campaign_id = :campaign AND p.status = 'pending'),
               (sent_at + interval '5 hours') AT TIME ZONE 'UTC',
               CASE WHEN mod(number, 3) = 1 THEN (sent_at + interval '1 day') AT TIME ZONE 'UTC' END,
               CASE WHEN mod(number, 3) = 1 THEN 'make run' END
        FROM (SELECT e.*, row_number() OVER (ORDER BY e.sent_at) AS number
              FROM emails e JOIN scheduled_emails s ON s.id = e.scheduled_email_id
              WHERE e.campaign_id = :campaign AND e.delivered_at IS NOT NULL
                AND s.workflow_step_number = (SELECT max(workflow_step_number) FROM scheduled_emails
                                              WHERE campaign_id = :campaign AND status = 'sent')) last
        WHERE mod(number, 25) = 3
        RETURNING lead_id
    ), stopped AS (
        UPDATE scheduled_emails s SET status = 'skipped', reason = 'replied'
        FROM replied r WHERE s.lead_id = r.lead_id AND s.campaign_id = :campaign AND s.status = 'pending'
    )
    UPDATE leads l SET emails_sent = n.sent, last_contacted_at = n.last,
        status = CAST(CASE WHEN l.id IN (SELECT lead_id FROM replied) THEN 'responded' WHEN n.sent = 1 THEN 'contacted'
                      ELSE 'follow_up_1' END AS lead_status)
    FROM (SELECT lead_id, count(*) AS sent, max(sent_at) AS last FROM emails WHERE campaign_id = :campaign
          GROUP BY lead_id) n
    WHERE l.id = n.lead_id
""")
_COUNTED = sa.text("""
    UPDATE campaigns SET emails_sent_count = n.sent,
        emails_delivered_count = n.delivered, emails_opened_count = n.opened, emails_clicked_count = n.clicked,
        emails_bounced_count = n.bounced,
        emails_replied_count = (SELECT count(*) FROM replies WHERE campaign_id = :campaign)
    FROM (SELECT count(*) AS sent, count(delivered_at) AS delivered, count(opened_at) AS opened,
                 count(clicked_at) AS clicked, count(bounced_at) AS bounced
          FROM emails WHERE campaign_id = :campaign) n
    WHERE id = :campaign
""")


def load(api: ApiClient, engine: sa.Engine) -> None:
    """Make the campaigns, after `load_demo`. Takes about a second."""
    templates = {template["name"]: template["id"] for template in api.list("/v1/email-templates")}
    steps = [
        {"step_number": number, "email_template_id": templates[name], "delay": {"value": days, "unit": "days"}}
        for number, (name, days) in enumerate(_STEPS, start=1)
    ]
    workflow = api.post("/v1/workflows", {"name": "After a fair", "steps": steps})
    contents = [{"email_template_id": templates["introduction"]}, *2 * [{"workflow_id": workflow["id"]}]]
    for (name, batch_name), content in zip(CAMPAIGNS.items(), contents, strict=True):
        city = batch_name.rpartition(" ")[2]
        rows = [_ROW.format(n=n, name=f"practice-{n}-{city.lower()}", city=city) for n in range(LEADS)]
        batch = api.post_csv("/v1/lead-batches", "\n".join([_HEADER, *rows]).encode(), name=batch_name)
        fields = {"name": name, "batch_ids": [batch["id"]], "track_opens": True, "track_clicks": True, **content}
        campaign = api.post("/v1/campaigns", fields)
        api.post(f"/v1/campaigns/{campaign['id']}/start")
        with engine.begin() as connection:
            sent = {"steps_sent": len(_STEPS) - 1, "last_delay": _STEPS[-1][1], "days": 7 * WEEKS}
            values = {"campaign": campaign["id"], **sent}
            for statement in (_BEGUN, _SENT, _TO_COME, _REPORTED, _REPLIED, _COUNTED):
                connection.execute(statement, values)
    api.post(f"/v1/campaigns/{campaign['id']}/pause")
