"""A database that a console has much to show of, and the address of each of its pages.

For tests of all pages and for their benchmark. A page that is registered has an address here by itself; one whose
address has a parameter that is not known here fails.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

import console.front  # noqa: F401 (it registers the pages)
from console.campaign_actions import ACTIONS
from console.campaign_form import FORMS
from console.public_pages import get_asset, go_home
from console.visit import PAGES

Get = Callable[..., Any]
"""Asks the API: a path and a query go in, JSON comes out."""

WITHOUT_CONTENT = {get_asset, go_home}
NEEDED_QUERIES = {"GET /console/templates/<template_id>/html": "?lead=<lead_id>"}

# In this order. Triggers and foreign keys are off, and what they would write is written here.
_STATEMENTS = (
    """
    INSERT INTO lead_batches (id, name, source_file, total_leads, successful_imports, created_at, completed_at)
    SELECT md5('batch' || n)::uuid, 'Trade fair ' || n || ', visitors who asked for a call', 'fair-' || n || '.csv',
           :leads / 20, :leads / 20, now() - n * interval '3 days', now() - n * interval '3 days'
    FROM generate_series(0, 19) n
    """,
    """
    INSERT INTO leads (id, email, company_name, contact_name, job_title, industry, city, country, source, status, tags,
                       custom_fields, batch_id, created_at)
    SELECT md5('lead' || n)::uuid, 'lea.berg.' || n || '@practice-' || n / 7 || '.example', 'Practice ' || n / 7,
           'Lea Berg ' || n, 'Owner', 'Dentist', 'Leeds', 'United Kingdom', 'csv_import',
           (ARRAY['new', 'contacted', 'responded', 'interested', 'not_interested', 'new'])[1 + mod(n, 6)]::lead_status,
           ARRAY['fair', 'tag' || mod(n, 50)], jsonb_build_object('plan', 'pro', 'seats', mod(n, 90)),
           md5('batch' || mod(n, 20))::uuid, now() - n * interval '1 second'
    FROM generate_series(0, :leads - 1) n
    """,
    """
    INSERT INTO email_templates (id, name, subject, body_text, body_html)
    SELECT md5('template' || n)::uuid, 'Introduction after the fair, version ' || n, 'A place for {{ company_name }}',
           'Dear {{ first_name }},' || repeat(E'\\nWe would like to show you how it works.', 20),
           '<p>Dear {{ first_name }},</p>' || repeat('<p>We would like to show you how it works.</p>', 20)
    FROM generate_series(1, :templates) n
    """,
    """
    INSERT INTO workflows (id, name, steps_count)
    SELECT md5('workflow' || n)::uuid, 'Three mails after a fair, ' || n, 3 FROM generate_series(1, :templates) n
    """,
    """
    INSERT INTO workflow_steps (workflow_id, step_number, delay, email_template_id)
    SELECT md5('workflow' || n)::uuid, step, (step - 1) * interval '3 days', md5('template' || step)::uuid
    FROM generate_series(1, :templates) n, generate_series(1, 3) step
    """,
    """
    INSERT INTO sender_addresses (id, from_address, address, daily_cap)
    SELECT md5('sender' || n)::uuid, 'Nora Lind <nora' || n || '@sales.example>',
           'nora' || n || '@sales.example', 50 * n
    FROM generate_series(1, 12) n
    """,
    """
    INSERT INTO sending_schedules (id, name, time_zone, zone_of, hours)
    SELECT md5('schedule' || n)::uuid, 'Office hours ' || n, 'Europe/Berlin', 'lead',
           '{"mon": [["09:00", "17:00"]], "tue": [["09:00", "17:00"]], "wed": [["09:00", "17:00"]]}'
    FROM generate_series(1, 5) n
    """,
    # Of ten campaigns six have completed, two run, one is paused and one is a draft. The newest draft has all leads.
    """
    INSERT INTO campaigns (id, name, description, status, workflow_id, use_workflow, batch_ids, track_opens,
                           track_clicks, actual_started_at, completed_at, paused_at, failure_reason, created_at,
                           from_address)
    SELECT md5('campaign' || n)::uuid, 'Fair follow-up ' || n || ', practices that asked',
           'Who left a card at the stand.', status, md5('workflow1')::uuid, true,
           CASE WHEN n = 4 THEN ARRAY(SELECT id FROM lead_batches) ELSE ARRAY[md5('batch' || mod(n, 20))::uuid] END,
           true, true,
           CASE WHEN status <> 'draft' THEN now() - interval '20 days' END,
           CASE WHEN status = 'completed' THEN now() - interval '2 days' END,
           CASE WHEN status = 'paused' THEN now() - interval '1 day' END,
           CASE WHEN status = 'paused' THEN '6.0 % of the latest emails bounced; the limit is 5.0 %.' END,
           now() - n * interval '1 hour', 'Nora Lind <nora@sales.example>'
    FROM (SELECT n, CASE WHEN mod(n, 10) IN (1, 2) THEN 'running' WHEN mod(n, 10) = 3 THEN 'paused'
                                WHEN mod(n, 10) = 4 THEN 'draft'
                    ELSE 'completed' END AS status FROM generate_series(1, :campaigns) n) each
    """,
    """
    INSERT INTO campaign_steps (campaign_id, step_number, delay, email_template_id, subject, body_text)
    SELECT id, step, (step - 1) * interval '3 days', md5('template' || step)::uuid, 'A place for you', 'Dear you'
    FROM campaigns, generate_series(1, 3) step WHERE status <> 'draft'
    """,
    """
    INSERT INTO campaign_step_variants (campaign_id, step_number, variant, weight, email_template_id, subject,
                                        body_text)
    SELECT md5('campaign1')::uuid, 1, variant, 1, md5('template' || variant)::uuid, 'A place for you', 'Dear you'
    FROM generate_series(1, 2) variant
    """,
    # The first campaign has a tenth of all leads, the others share them. A start writes rows of a campaign together;
    # the emails follow as they are sent.
    """
    INSERT INTO scheduled_emails (campaign_id, lead_id, template_id, workflow_step_number, scheduled_for, status,
                                  sent_at, failed_at, error_code, reason, ses_message_id, variant, email_id)
    SELECT campaign_id, lead_id, md5('template' || step)::uuid, step, at, status,
           CASE WHEN status = 'sent' THEN at END, CASE WHEN status = 'failed' THEN at END,
           CASE WHEN status <> 'failed' THEN NULL WHEN mod(lead, 3) = 0 THEN 'outcome_unknown'
                ELSE 'message_rejected' END,
           CASE WHEN status = 'skipped' THEN 'replied' WHEN status = 'cancelled' THEN 'paused' END,
           CASE WHEN status = 'sent' THEN 'm-' || lead || '-' || campaign || '-' || step END,
           CASE WHEN campaign = 1 AND step = 1 THEN 1 + mod(lead, 2) END,
           CASE WHEN status = 'sent' THEN md5('email' || lead || '-' || campaign || '-' || step)::uuid END
    FROM (
        SELECT c.n AS campaign, md5('campaign' || c.n)::uuid AS campaign_id, l AS lead,
               md5('lead' || l)::uuid AS lead_id, step,
               now() - interval '20 days' + mod(l, 400) * interval '1 hour' * step AS at,
               CASE WHEN mod(l + step, 50) = 0 THEN 'failed' WHEN mod(l + step, 20) = 0 THEN 'skipped'
                    WHEN mod(c.n, 10) IN (1, 2) AND step = 3 THEN 'pending'
                    WHEN mod(c.n, 10) = 3 AND step > 1 THEN 'cancelled' ELSE 'sent' END AS status
        FROM generate_series(1, :campaigns) c (n)
        CROSS JOIN LATERAL generate_series(
            CASE WHEN c.n = 1 THEN 0 ELSE (c.n - 1) * (:leads / :campaigns) END,
            CASE WHEN c.n = 1 THEN :leads / 10 ELSE c.n * (:leads / :campaigns) - 1 END) l
        CROSS JOIN generate_series(1, CASE WHEN c.n = 1 THEN 3 ELSE 2 END) step
        WHERE mod(c.n, 10) <> 4
    ) planned ORDER BY campaign, lead, step
    """,
    """
    INSERT INTO emails (id, scheduled_email_id, campaign_id, lead_id, to_address, subject, body_text, status, sent_at,
                        delivered_at, opened_at, clicked_at, bounced_at, delivery_status, external_id)
    SELECT email_id, id, campaign_id, lead_id, 'lea@practice.example', 'A place for you', 'Dear you', 'delivered', at,
           CASE WHEN mod(id, 60) > 0 THEN at END, CASE WHEN mod(id, 5) < 2 THEN at END,
           CASE WHEN mod(id, 11) = 0 THEN at END,
           CASE WHEN mod(id, 60) = 0 THEN at END, CASE WHEN mod(id, 60) > 0 THEN 'delivered' ELSE 'bounced' END,
           ses_message_id
    FROM (SELECT *, sent_at AT TIME ZONE 'UTC' AS at FROM scheduled_emails WHERE status = 'sent') sent ORDER BY at
    """,
    """
    INSERT INTO campaign_counts (campaign_id, what, step_number, hour, count, is_total)
    SELECT campaign_id, status, workflow_step_number,
           coalesce(date_trunc('hour', coalesce(sent_at, failed_at), 'UTC'), '-infinity'), count(*), true
    FROM scheduled_emails GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT e.campaign_id, what, -s.workflow_step_number, date_trunc('hour', at) AT TIME ZONE 'UTC', count(*), true
    FROM emails e JOIN scheduled_emails s ON s.id = e.scheduled_email_id
    CROSS JOIN LATERAL (VALUES ('delivered', delivered_at), ('opened', opened_at), ('clicked', clicked_at),
                               ('bounced', bounced_at)) happened (what, at)
    WHERE at IS NOT NULL GROUP BY 1, 2, 3, 4
    """,
    """
    INSERT INTO daily_counts (day, what, count, is_total)
    SELECT CAST(hour AT TIME ZONE 'UTC' AS date), what, sum(count), true FROM campaign_counts
    WHERE hour > '-infinity' GROUP BY 1, 2
    """,
    """
    UPDATE campaigns c SET emails_scheduled_count = n.scheduled, total_leads_targeted = n.leads,
        emails_sent_count = n.sent, emails_failed_count = n.failed,
        emails_delivered_count = n.sent * 59 / 60, emails_opened_count = n.sent * 2 / 5,
        emails_clicked_count = n.sent / 11, emails_bounced_count = n.sent / 60
    FROM (SELECT campaign_id, count(*) AS scheduled, count(*) FILTER (WHERE workflow_step_number = 1) AS leads,
                 count(*) FILTER (WHERE status = 'sent') AS sent, count(*) FILTER (WHERE status = 'failed') AS failed
          FROM scheduled_emails GROUP BY 1) n WHERE n.campaign_id = c.id
    """,
    """
    INSERT INTO left_out_leads (campaign_id, lead_id, reason)
    SELECT md5('campaign' || 1 + mod(l, 3))::uuid, md5('lead' || l)::uuid, 'suppressed'
    FROM generate_series(1, :leads / 50) l
    """,
    """
    INSERT INTO replies (message_id, source, from_address, subject, body_text, matched_by, lead_id, campaign_id,
                         email_id, created_at, handled_at, handled_by)
    SELECT 'reply-' || id, 'ses', 'lea@practice.example', 'Re: A place for you',
           repeat('Thank you, please call me on Monday. ', 6), 'message_id', lead_id, campaign_id, email_id,
           sent_at + interval '1 hour', CASE WHEN mod(id, 4) > 0 THEN sent_at + interval '2 hours' END,
           CASE WHEN mod(id, 4) > 0 THEN 'Nora' END
    FROM scheduled_emails WHERE status = 'sent' AND mod(id, 100) = 0
    """,
    """
    INSERT INTO email_events (event_key, scheduled_email_id, email_id, campaign_id, lead_id, ses_message_id, event_type,
                              occurred_at)
    SELECT 'event-' || id, id, email_id, campaign_id, lead_id, ses_message_id,
           CASE WHEN mod(id, 60) = 0 THEN 'Bounce' ELSE 'Complaint' END, sent_at
    FROM scheduled_emails WHERE status = 'sent' AND (mod(id, 60) = 0 OR mod(id, 2003) = 0)
    """,
    """
    INSERT INTO suppressions (value, reason, note, created_at)
    SELECT 'gone.' || n || '@practice.example', 'bounce', 'An imported file: bounced', now() - n * interval '1 minute'
    FROM generate_series(1, :leads / 50) n
    """,
    """
    INSERT INTO unsubscribes (lead_id, campaign_id, scheduled_email_id, scope, method)
    SELECT DISTINCT ON (lead_id, campaign_id) lead_id, campaign_id, id, 'everything', 'one_click'
    FROM scheduled_emails WHERE status = 'sent' AND mod(id, 400) = 0
    """,
    """
    INSERT INTO audit_log (occurred_at, actor, action, entity_type, entity_id, detail)
    SELECT now() - n * interval '1 minute', 'api_key:' || md5('key' || mod(n, 5))::uuid,
           (ARRAY['campaign.start', 'campaign.pause', 'lead.update', 'suppression.add'])[1 + mod(n, 4)], 'campaign',
           md5('campaign' || mod(n, :campaigns))::uuid::text, jsonb_build_object('fields', ARRAY['name', 'batch_ids'])
    FROM generate_series(:leads / 20, 1, -1) n
    """,
    """
    INSERT INTO segments (id, name, filter)
    SELECT md5('segment' || n)::uuid, 'Dentists in Leeds, ' || n,
           '{"kind": "field", "field": "city", "operator": "is", "values": ["Leeds"]}'
    FROM generate_series(1, 30) n
    """,
    """
    INSERT INTO webhook_endpoints (id, url, event_types, secret, created_by)
    SELECT md5('endpoint' || n)::uuid, 'https://hooks.example.com/' || n, ARRAY['lead.replied'], 'x', 'Nora'
    FROM generate_series(1, 5) n
    """,
    """
    INSERT INTO webhook_deliveries (endpoint_id, event_type, data, status, attempts)
    SELECT md5('endpoint' || 1 + mod(n, 5))::uuid, 'lead.replied', '{"campaign_id": "x"}', 'delivered', 1
    FROM generate_series(1, :leads / 10) n
    """,
    """
    INSERT INTO exports (kind, status, rows_written, requested_by, campaign_id, failure_reason)
    SELECT 'campaign_ledger', 'failed', n, 'Nora', md5('campaign' || n)::uuid, 'The database was restarted.'
    FROM generate_series(1, 40) n
    """,
    """
    INSERT INTO sender_ticks (ended_at, is_further, claimed, sent, failed, skipped, unknown, rate)
    SELECT now() - n * interval '1 minute', mod(n, 7) = 0, mod(n, 90), mod(n, 90), 0, mod(n, 3), 0, 13.3
    FROM generate_series(5000, 1, -1) n
    """,
    "UPDATE sender_state SET last_tick_at = now(), last_tick_ended_at = now(), last_rate = 13.3",
)


def fill(engine: sa.Engine, *, leads: int, campaigns: int, templates: int = 60) -> None:
    """Write so much into an empty database, as its administrator. It takes about a second for 10,000 leads."""
    size = {":leads": str(leads), ":campaigns": str(campaigns), ":templates": str(templates)}
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for statement in _STATEMENTS:
            connection.exec_driver_sql(re.sub("|".join(size), lambda found: size[found[0]], statement))
        connection.exec_driver_sql("ANALYZE")


def ids_of(get: Get) -> dict[str, Sequence[str]]:
    """What the addresses of pages name, as the API lists it."""

    def first(path: str, **query: Any) -> Any:
        return get(path, limit=1, **query)["items"][0]

    running = next(
        each for each in get("/v1/campaigns", limit=200, status="running")["items"] if each["total_leads_targeted"]
    )
    sent = first(f"/v1/campaigns/{running['id']}/scheduled-emails", status="sent")
    with_id = {
        "campaign_id": running["id"],
        "draft_id": first("/v1/campaigns", status="draft")["id"],
        "lead_id": sent["lead_id"],
        "email": str(sent["id"]),
        "email_id": sent["email_id"],
    }
    lists = {
        "schedule_id": "/v1/sending-schedules",
        "reply_id": "/v1/replies",
        "segment_id": "/v1/segments",
        "template_id": "/v1/email-templates",
        "endpoint_id": "/v1/webhook-endpoints",
        "workflow_id": "/v1/workflows",
        "batch_id": "/v1/lead-batches",
    }
    with_id |= {name: first(path)["id"] for name, path in lists.items()}
    return {
        **{name: [value] for name, value in with_id.items()},
        "name": list(ACTIONS),
        "stage": list(FORMS),
        "step": ["1"],
        "variant": ["1"],
        "action": ["winner", "retire"],
    }


def every_page(ids: Mapping[str, Sequence[str]]) -> list[str]:
    """The address of each page with something to see, as the console has registered them."""
    found = []
    for method, _, name, function in PAGES:
        if method != "GET" or function in WITHOUT_CONTENT:
            continue
        path = name.removeprefix("GET ") + NEEDED_QUERIES.get(name, "")
        parameters = re.findall(r"<(\w+)>", path)
        for values in itertools.product(*(ids[parameter] for parameter in parameters)):
            address = path
            for parameter, value in zip(parameters, values, strict=True):
                address = address.replace(f"<{parameter}>", value)
            found.append(address)
    return found


def lists_with_filters(ids: Mapping[str, Sequence[str]]) -> list[str]:
    """Lists as people ask for parts of them."""
    campaign, draft, batch, lead = (ids[name][0] for name in ("campaign_id", "draft_id", "batch_id", "lead_id"))
    return [
        *(f"/console/campaigns/{draft}{page}" for page in ("", "/start", "/plan", "/edit/preview?step=2")),
        *(f"/console/campaigns?status={status}" for status in ("running", "paused", "completed", "draft")),
        f"/console/campaigns/{campaign}?interval=day",
        *(
            f"/console/campaigns/{campaign}/emails?status={status}"
            for status in ("sent", "pending", "failed", "skipped")
        ),
        "/console/campaigns?attention=yes",
        f"/console/campaigns/{campaign}/emails?step=2",
        f"/console/campaigns/{campaign}/emails?reason=replied",
        *(
            f"/console/campaigns/{campaign}/emails?search={text}"
            for text in ("Practice+9", "lea.berg.70%40practice-10.example")
        ),
        f"/console/campaigns/{campaign}/emails?error_code=outcome_unknown",
        f"/console/campaigns/{campaign}/left-out?reason=suppressed",
        *(f"/console/leads?search={text}" for text in ("lea.berg.4711%40", "Practice+99", "nobody.at.all")),
        *(f"/console/leads?status={status}" for status in ("new", "interested", "converted")),
        f"/console/leads?batch_id={batch}",
        f"/console/leads?batch_id={batch}&status=responded",
        f"/console/replies?show=all&campaign_id={campaign}",
        "/console/replies?show=all",
        "/console/audit-log?action=campaign.pause",
        f"/console/audit-log?entity_id={campaign}",
        "/console/audit-log?action=lead.erase",
        "/console/suppressions?value=gone.7%40practice.example",
        "/console/suppressions?reason=manual",
        f"/console/templates/{ids['template_id'][0]}?lead={lead}",
    ]
