"""Steps that go out as answers: whom they answer, by which headers, and under which subject."""

from __future__ import annotations

import datetime as dt
import uuid
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from local.ses_simulator.eml import assemble
from sendledger.campaigns import lifecycle
from sendledger.ledger import claim_emails
from sendledger.ledger.email_threads import find_threads
from sendledger.ledger.settle_unknown import Acceptance, settle_as_sent
from sendledger.sending.tick import Resources, send_due_emails
from testbed.campaigns import DAY, NO_DELAY, make_campaign, make_template, make_workflow, pass_time, rows_of
from testbed.senders import sender_resources

SECONDS = 60.0


def started(
    engine: sa.Engine, connection: sa.Connection, in_thread: str, delay: dt.timedelta = DAY, *, quote: bool = False
) -> uuid.UUID:
    """A campaign to one lead, with a step for each letter: ``n`` begins a thread and ``t`` goes on with it."""
    workflow_id = make_workflow(connection, [NO_DELAY] + [delay] * (len(in_thread) - 1))
    for number, letter in enumerate(in_thread, 1):
        connection.execute(
            sa.text(
                "UPDATE workflow_steps SET in_thread = :t, quote = :q WHERE workflow_id = :id AND step_number = :n"
            ),
            {"t": letter == "t", "q": quote and letter == "t", "id": workflow_id, "n": number},
        )
    campaign_id = make_campaign(connection, ["ann@example.com"], workflow_id=workflow_id)
    lifecycle.start_campaign(engine, campaign_id)
    return campaign_id


def send_all(engine: sa.Engine, resources: Resources, ticks: int) -> None:
    for _ in range(ticks):
        send_due_emails(resources, SECONDS)
        pass_time(engine, DAY)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE sender_state SET last_tick_at = now()"))


def mails(ses: SesSimulator) -> list[EmailMessage]:
    """What was sent, oldest first, as the recipient's mail program reads it."""
    read = (message_from_bytes(assemble(each, region="us-east-1"), policy=default) for each in ses.accepted())
    return [message for message in read if isinstance(message, EmailMessage)]


def ids(messages: list[EmailMessage]) -> list[str]:
    return [str(message["Message-ID"]) for message in messages]


def test_each_answer_names_the_root_and_its_parent_and_no_more(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "nttt")
    send_all(engine, resources, 4)
    sent = mails(ses)
    root, second, third, _ = ids(sent)
    assert [message["In-Reply-To"] for message in sent] == [None, root, second, third]
    references = [message["References"] for message in sent]
    assert references == [None, root, f"{root} {second}", f"{root} {third}"]


def test_answer_takes_the_subject_that_the_lead_has_got(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "ntt")
    send_due_emails(resources, SECONDS)
    connection.execute(sa.text("UPDATE leads SET contact_name = 'Zoe Lee'"))
    connection.commit()
    pass_time(engine, DAY)
    send_all(engine, resources, 2)
    assert [message["Subject"] for message in mails(ses)] == [
        "Step 1 for Ann0",
        "Re: Step 1 for Ann0",
        "Re: Step 1 for Ann0",
    ]


def test_subject_that_is_an_answer_already_is_not_marked_twice(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "nt")
    connection.execute(sa.text("UPDATE campaign_steps SET subject = 'RE: your question' WHERE step_number = 1"))
    connection.commit()
    send_all(engine, resources, 2)
    assert [message["Subject"] for message in mails(ses)] == ["RE: your question", "RE: your question"]


def test_step_outside_of_the_thread_begins_another_one(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "ntnt")
    send_all(engine, resources, 4)
    sent = mails(ses)
    assert [message["In-Reply-To"] for message in sent] == [None, ids(sent)[0], None, ids(sent)[2]]
    assert sent[3]["References"] == ids(sent)[2]
    assert sent[3]["Subject"] == "Re: Step 3 for Ann0"


def test_parent_of_unknown_outcome_is_passed_over(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "ntt")
    send_all(engine, resources, 1)
    ses.add_fault("reset_after_accept")
    send_all(engine, resources, 2)
    first, _, third = mails(ses)
    assert third["In-Reply-To"] == third["References"] == first["Message-ID"]
    assert third["Subject"] == "Re: Step 1 for Ann0"


def test_answer_to_nothing_is_a_new_mail_with_its_own_subject(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    ses.add_fault("reset_after_accept")
    started(engine, connection, "ntt")
    send_all(engine, resources, 3)
    _, second, third = mails(ses)
    assert (second["In-Reply-To"], second["References"]) == (None, None)
    assert second["Subject"] == "Step 2 for Ann0"
    assert third["In-Reply-To"] == third["References"] == second["Message-ID"]
    assert third["Subject"] == "Re: Step 2 for Ann0"


def test_answer_without_a_delay_waits_for_its_parent(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "nt", NO_DELAY)
    send_due_emails(resources, SECONDS)
    pass_time(engine, dt.timedelta(minutes=2))
    send_due_emails(resources, SECONDS)
    assert [message["In-Reply-To"] for message in mails(ses)] == [None, ids(mails(ses))[0]]


def test_parent_that_is_recorded_between_preparing_and_fence_is_answered_by_the_next_claim(
    engine: sa.Engine,
    connection: sa.Connection,
    resources: Resources,
    ses: SesSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    campaign_id = started(engine, connection, "nt", NO_DELAY)
    fence = claim_emails.fence

    def fence_after_the_parent(
        open_: sa.Connection, emails: list[claim_emails.ClaimedEmail], token: uuid.UUID
    ) -> object:
        # Another sender has just sent the first step.
        monkeypatch.setattr(claim_emails, "fence", fence)
        with engine.begin() as other:
            other.execute(
                sa.text("""
                    WITH m AS (INSERT INTO emails (lead_id, campaign_id, subject, body_text)
                               SELECT lead_id, campaign_id, 'First', 'Text' FROM scheduled_emails LIMIT 1 RETURNING id)
                    UPDATE scheduled_emails SET status = 'sent', sent_at = now() - interval '1 minute',
                        ses_message_id = 'first', email_id = (SELECT id FROM m), lease_until = NULL
                    WHERE workflow_step_number = 1
                """)
            )
        return fence(open_, emails, token)

    monkeypatch.setattr(claim_emails, "fence", fence_after_the_parent)
    send_due_emails(resources, SECONDS)
    (answer,) = mails(ses)
    assert answer["In-Reply-To"] == "<first@email.amazonses.com>"
    assert answer["Subject"] == "Re: First"
    assert [row["status"] for row in rows_of(engine, campaign_id)] == ["sent", "sent"]


def test_quote_shows_the_text_of_the_parent_below(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "ntt", quote=True)
    connection.execute(sa.text("UPDATE campaign_steps SET body_html = '<p>{{ company_name }} &lt;3</p></body>'"))
    connection.execute(sa.text("UPDATE leads SET contact_name = 'Ann <b>'"))
    connection.commit()
    send_all(engine, resources, 3)
    third = mails(ses)[2]
    text, html = (part.get_content().replace("\r\n", "\n") for part in third.iter_parts())
    assert text.startswith("Dear Ann <b> of Company 0\n\nOn ")
    assert "UTC, Sales <sales@example.com> wrote:\n> Dear Ann <b> of Company 0\n>\n> On " in text
    assert "\n>> Dear Ann <b> of Company 0\n" in text
    assert "Sales &lt;sales@example.com&gt; wrote:</div>" in html
    assert "Dear Ann &lt;b&gt; of Company 0<br>" in html
    assert html.rstrip().endswith("</blockquote>\n</body>")


def test_without_quote_the_parent_is_not_shown(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "nt")
    send_all(engine, resources, 2)
    assert mails(ses)[1].get_content().splitlines() == ["Dear Ann0 Lee of Company 0"]


def test_domain_of_the_message_ids_can_be_set(
    engine: sa.Engine, connection: sa.Connection, sender_engine: sa.Engine, ses: SesSimulator
) -> None:
    started(engine, connection, "nt")
    send_all(engine, sender_resources(sender_engine, ses.url, SES_MESSAGE_ID_DOMAIN="mail.example.org"), 2)
    assert mails(ses)[1]["In-Reply-To"] == f"<{ses.accepted()[0].message_id}@mail.example.org>"


def test_email_that_is_settled_later_keeps_the_subject_that_it_went_out_with(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = started(engine, connection, "nt")
    send_all(engine, resources, 1)
    ses.add_fault("reset_after_accept")
    send_all(engine, resources, 1)
    unknown = rows_of(engine, campaign_id)[1]
    assert unknown["error_code"] == "outcome_unknown"
    with engine.begin() as settling:
        assert settle_as_sent(settling, {unknown["id"]: Acceptance(ses.accepted()[1].message_id)}) == 1
    stored = sa.text("SELECT subject FROM emails WHERE scheduled_email_id = :id")
    assert connection.scalar(stored, {"id": unknown["id"]}) == "Re: Step 1 for Ann0"


def test_answers_of_other_leads_and_campaigns_are_no_parents(
    engine: sa.Engine, connection: sa.Connection, resources: Resources
) -> None:
    first = started(engine, connection, "nt")
    second = started(engine, connection, "nt")
    send_all(engine, resources, 1)
    for campaign_id in (first, second):
        parent, answer = rows_of(engine, campaign_id)
        (thread,) = find_threads(connection, [answer["id"]]).values()
        assert getattr(thread, "parent_id", None) == parent["ses_message_id"]


def test_template_with_a_broken_subject_can_be_sent_as_an_answer(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    started(engine, connection, "nt")
    connection.execute(sa.text("UPDATE campaign_steps SET subject = '{{ custom_fields.plan }}' WHERE step_number = 2"))
    connection.commit()
    send_all(engine, resources, 2)
    assert len(mails(ses)) == 2


def test_single_template_is_in_no_thread(
    engine: sa.Engine, connection: sa.Connection, resources: Resources, ses: SesSimulator
) -> None:
    campaign_id = make_campaign(connection, 1, email_template_id=make_template(connection))
    lifecycle.start_campaign(engine, campaign_id)
    send_due_emails(resources, SECONDS)
    assert mails(ses)[0]["References"] is None
