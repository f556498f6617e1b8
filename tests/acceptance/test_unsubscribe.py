"""Opting out, told from outside: the link in a mail from the inbox, a scanner, a mail client and a person."""

from __future__ import annotations

import html
import re
import uuid
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from local.ses_simulator import SesSimulator
from local.stack import LocalStack
from sendledger.campaigns import lifecycle
from sendledger.core.tables import audit_log, campaigns, emails, leads, suppressions, unsubscribes
from testbed.campaigns import DAY, NO_DELAY, campaign_row, make_campaign, pass_time, rows_of, statuses

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def mail(ses: SesSimulator, number: int = 0) -> EmailMessage:
    """A message as it lies in the inbox."""
    accepted = ses.accepted()[number]
    raw = httpx.get(f"{ses.url}/_simulator/ledger/{accepted.message_id}.eml").content
    message = message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def link_in(message: EmailMessage) -> str:
    return str(message["List-Unsubscribe"]).strip("<>")


@pytest.fixture
def campaign_id(engine: sa.Engine, connection: sa.Connection, stack: LocalStack) -> uuid.UUID:
    """A campaign of two steps to two leads, of which the first step is sent."""
    created = make_campaign(connection, ["ann@example.com", "bob@example.com"], [NO_DELAY, DAY])
    lifecycle.start_campaign(engine, created)
    stack.tick()
    return created


@pytest.fixture
def link(campaign_id: uuid.UUID, ses: SesSimulator) -> str:
    """The link in Ann's mail."""
    return link_in(next(mail(ses, number) for number in (0, 1) if mail(ses, number)["To"] == "ann@example.com"))


def skipped_addresses(engine: sa.Engine, campaign_id: uuid.UUID) -> list[str | None]:
    lead_ids = [row["lead_id"] for row in rows_of(engine, campaign_id) if row["status"] == "skipped"]
    with engine.connect() as connection:
        return list(connection.scalars(sa.select(leads.c.email).where(leads.c.id.in_(lead_ids))))


def active_suppressions(engine: sa.Engine) -> list[tuple[str, uuid.UUID | None, str]]:
    columns = suppressions.c.value, suppressions.c.campaign_id, suppressions.c.reason
    with engine.connect() as connection:
        rows = connection.execute(sa.select(*columns).where(suppressions.c.removed_at.is_(None)).order_by("value"))
        return [tuple(row) for row in rows]


def test_a_mail_clients_post_stops_the_next_step(
    engine: sa.Engine, stack: LocalStack, ses: SesSimulator, campaign_id: uuid.UUID, link: str
) -> None:
    answer = httpx.post(link, data=ONE_CLICK)
    assert (answer.status_code, answer.headers.get("set-cookie"), answer.history) == (200, None, [])
    assert skipped_addresses(engine, campaign_id) == ["ann@example.com"]
    pass_time(engine, DAY)
    stack.tick()
    assert [each.destination for each in ses.accepted()[2:]] == [("bob@example.com",)]
    campaign = campaign_row(engine, campaign_id)
    assert (campaign["status"], campaign["emails_unsubscribed_count"]) == ("completed", 1)
    assert active_suppressions(engine) == [("ann@example.com", None, "unsubscribe")]


def test_one_click_as_multipart_works_too(engine: sa.Engine, campaign_id: uuid.UUID, link: str) -> None:
    answer = httpx.post(link, files={"List-Unsubscribe": (None, "One-Click")})
    assert answer.status_code == 200
    assert skipped_addresses(engine, campaign_id) == ["ann@example.com"]


def test_posting_again_changes_nothing(engine: sa.Engine, campaign_id: uuid.UUID, link: str) -> None:
    for _ in range(3):
        assert httpx.post(link, data=ONE_CLICK).status_code == 200
    assert campaign_row(engine, campaign_id)["emails_unsubscribed_count"] == 1
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(unsubscribes)) == 1
        written = sa.select(audit_log.c.actor, audit_log.c.detail).where(audit_log.c.action == "lead.unsubscribe")
        (entry,) = connection.execute(written)
    assert entry.actor == "recipient"
    assert entry.detail == {"campaign_id": str(campaign_id), "scope": "everything", "method": "one_click"}


def test_a_scanners_get_and_head_change_nothing(engine: sa.Engine, campaign_id: uuid.UUID, link: str) -> None:
    page = httpx.get(link)
    head = httpx.head(link)
    assert (page.status_code, head.status_code, head.content) == (200, 200, b"")
    assert page.headers["content-type"] == head.headers["content-type"] == "text/html; charset=utf-8"
    assert active_suppressions(engine) == []
    assert statuses(engine, campaign_id) == {"sent": 2, "pending": 2}


def test_a_person_opts_out_of_this_campaign_only(engine: sa.Engine, campaign_id: uuid.UUID, link: str) -> None:
    assert httpx.post(link, data={"action": "unsubscribe", "scope": "campaign"}).status_code == 200
    assert active_suppressions(engine) == [("ann@example.com", campaign_id, "unsubscribe")]
    assert skipped_addresses(engine, campaign_id) == ["ann@example.com"]


def test_opting_out_of_everything_after_the_campaign_counts_once(
    engine: sa.Engine, campaign_id: uuid.UUID, link: str
) -> None:
    httpx.post(link, data={"action": "unsubscribe", "scope": "campaign"})
    httpx.post(link, data={"action": "unsubscribe", "scope": "everything"})
    assert campaign_row(engine, campaign_id)["emails_unsubscribed_count"] == 1
    assert ("ann@example.com", None, "unsubscribe") in active_suppressions(engine)


def test_undo_lets_the_address_get_mail_again(engine: sa.Engine, campaign_id: uuid.UUID, link: str) -> None:
    httpx.post(link, data=ONE_CLICK)
    assert httpx.post(link, data={"action": "undo"}).status_code == 200
    assert active_suppressions(engine) == []
    assert campaign_row(engine, campaign_id)["emails_unsubscribed_count"] == 0
    assert httpx.post(link, data=ONE_CLICK).status_code == 200
    assert campaign_row(engine, campaign_id)["emails_unsubscribed_count"] == 1


def test_page_names_who_sent_the_mail(link: str) -> None:
    assert (
        "These emails are from <strong>Nora Lind &lt;nora@harbour-booking.example&gt;</strong>" in httpx.get(link).text
    )


def test_page_names_the_campaigns_own_address_or_the_sender_that_the_lead_has(
    engine: sa.Engine, campaign_id: uuid.UUID, link: str
) -> None:
    def change(statement: str) -> str:
        with engine.begin() as connection:
            connection.execute(sa.text(statement), {"campaign": campaign_id})
        found = re.search("<strong>(.*)</strong>", httpx.get(link).text)
        return html.unescape(found[1]) if found else ""

    own = "UPDATE campaigns SET from_address = 'Ole <ole@acme.example>' WHERE id = :campaign"
    assert change(own) == "Ole <ole@acme.example>"
    sender = """
        WITH made AS (INSERT INTO sender_addresses (from_address, address)
                      VALUES ('Ida <ida@acme.example>', 'ida@acme.example') RETURNING id)
        UPDATE scheduled_emails SET sender_id = made.id FROM made WHERE campaign_id = :campaign
    """
    assert change(sender) == "Ida <ida@acme.example>"
    # Its row was removed meanwhile: nobody is named rather than another sender.
    several = """
        WITH removed AS (UPDATE scheduled_emails SET sender_id = NULL WHERE campaign_id = :campaign)
        UPDATE campaigns SET from_address = NULL, sender_ids = ARRAY[gen_random_uuid(), gen_random_uuid()]
        WHERE id = :campaign
    """
    assert change(several) == ""


def test_undo_is_offered_while_there_is_something_to_undo(campaign_id: uuid.UUID, link: str) -> None:
    offer = '<button name="action" value="undo">'
    assert offer not in httpx.get(link).text
    for asked in (ONE_CLICK, {"action": "unsubscribe", "scope": "campaign"}):
        assert offer in httpx.post(link, data=asked).text
        assert offer in httpx.get(link).text
        assert offer not in httpx.post(link, data={"action": "undo"}).text
        assert offer not in httpx.get(link).text


@pytest.mark.parametrize("reason", ["bounce", "complaint", "manual"])
def test_undo_does_not_lift_a_suppression_for_another_reason(
    engine: sa.Engine, campaign_id: uuid.UUID, link: str, reason: str
) -> None:
    with engine.begin() as connection:
        values = {"value": "ann@example.com", "reason": reason, "created_by": "ses"}
        connection.execute(sa.insert(suppressions).values(values))
    httpx.post(link, data=ONE_CLICK)
    httpx.post(link, data={"action": "undo"})
    assert [value for value, _, _ in active_suppressions(engine)] == ["ann@example.com"]


@pytest.mark.parametrize(
    ("language", "promise", "truth"),
    [
        ("en", "may get emails", "reported as spam"),
        ("de", "wieder E-Mails dieses Absenders", "als Spam gemeldet"),
        ("fr", "Vous pourrez", "signalé comme spam"),
    ],
)
def test_page_after_a_complaint_promises_no_mail(
    engine: sa.Engine, campaign_id: uuid.UUID, link: str, language: str, promise: str, truth: str
) -> None:
    with engine.begin() as connection:
        values = {"value": "ann@example.com", "reason": "complaint", "created_by": "ses"}
        connection.execute(sa.insert(suppressions).values(values))
    httpx.post(link, data=ONE_CLICK)
    page = httpx.post(link, data={"action": "undo"}, headers={"Accept-Language": language}).text
    assert promise not in page
    assert truth in html.unescape(page)


@pytest.mark.parametrize("more", [".", ")", "%3E", "/", "),"])
def test_link_works_with_punctuation_after_it(engine: sa.Engine, campaign_id: uuid.UUID, link: str, more: str) -> None:
    assert httpx.get(link + more).status_code == 200
    assert httpx.post(link + more, data=ONE_CLICK).status_code == 200
    assert [value for value, _, _ in active_suppressions(engine)] == ["ann@example.com"]


def test_undo_does_not_lift_the_suppression_of_an_address_that_bounced_afterwards(
    engine: sa.Engine, campaign_id: uuid.UUID, link: str
) -> None:
    httpx.post(link, data=ONE_CLICK)
    with engine.begin() as connection:
        connection.execute(sa.update(emails).values(delivery_status="bounced"))
    httpx.post(link, data={"action": "undo"})
    assert [value for value, _, _ in active_suppressions(engine)] == ["ann@example.com"]


def test_link_works_after_the_campaign_was_deleted(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, link: str
) -> None:
    connection.execute(sa.delete(campaigns).where(campaigns.c.id == campaign_id))
    connection.commit()
    assert httpx.post(link, data={"action": "unsubscribe", "scope": "campaign"}).status_code == 200
    assert active_suppressions(engine) == []
    assert httpx.post(link, data=ONE_CLICK).status_code == 200
    assert active_suppressions(engine) == [("ann@example.com", None, "unsubscribe")]


def test_both_the_address_of_the_mail_and_the_leads_new_one_are_suppressed(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, link: str
) -> None:
    connection.execute(sa.update(leads).where(leads.c.email == "ann@example.com").values(email="New@example.com"))
    connection.commit()
    httpx.post(link, data=ONE_CLICK)
    assert [value for value, _, _ in active_suppressions(engine)] == ["ann@example.com", "new@example.com"]


def test_link_of_a_deleted_lead_is_answered_like_any_other(
    engine: sa.Engine, connection: sa.Connection, campaign_id: uuid.UUID, link: str
) -> None:
    connection.execute(sa.delete(leads).where(leads.c.email == "ann@example.com"))
    connection.commit()
    assert httpx.post(link, data=ONE_CLICK).status_code == 200
    assert active_suppressions(engine) == []


def test_every_wrong_token_gets_the_same_page(engine: sa.Engine, campaign_id: uuid.UUID, link: str) -> None:
    base, _, token = link.rpartition("/")
    key, _, signed = token.partition(".")
    wrong = [
        # Not at its end: after a sign everything is ignored, and the signature's last character may be one.
        token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:],
        token[:-10],
        f"other.{signed}",
        "x",
        "A" * 6000,
        "%00",
        "%F0%9F%92%A5",
        f"{key}.{'a' * 48}",
    ]
    for method in ("GET", "POST"):
        answers = [
            httpx.request(method, f"{base}/{each}", data=ONE_CLICK if method == "POST" else None) for each in wrong
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content for answer in answers}) == 1
    assert active_suppressions(engine) == []


def test_post_with_an_unknown_action_changes_nothing(engine: sa.Engine, link: str) -> None:
    bodies = (
        *(b"", b"x" * 9_000, b"x" * 2_000_000, b"&" * 9_000, b"a=" * 4_000, b"\xff\xfe\x00"),
        *(b"List-Unsubscribe=Two-Click", b"action=unsubscribe", b"action=unsubscribe&scope=other"),
    )
    for content_type in ("application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=a"):
        for body in bodies:
            answer = httpx.post(link, content=body, headers={"Content-Type": content_type})
            assert answer.status_code == 400
    assert active_suppressions(engine) == []


@pytest.mark.parametrize(
    ("odd", "head", "status"),
    [
        ("; boundary=b", 'Content-Disposition: form-data; name="List-Unsubscribe"', 200),
        ('; charset=x; BOUNDARY="b"', "content-disposition: form-data; name=List-Unsubscribe", 200),
        ("; boundary*0*=x'x'b", 'Content-Disposition: form-data; name="List-Unsubscribe"', 400),
        (f"; boundary*{'9' * 4_000}=b; boundary=b", 'Content-Disposition: form-data; name="List-Unsubscribe"', 200),
        ("; boundary=b", f"Content-Disposition: form-data; name*{'9' * 5_000}*=x'x'List-Unsubscribe", 400),
        ("; boundary=b", "Content-Disposition: form-data; name*=nonsense'x'%ff", 400),
        ("; boundary=b", "Content-Type: multipart/mixed; boundary=b", 400),
        ("; boundary=b", "Content-Disposition: " + "; name" * 1_000, 400),
        ("; boundary=", "x", 400),
        ("", "x", 400),
    ],
)
def test_form_with_odd_parameters_is_read_or_refused(link: str, odd: str, head: str, status: int) -> None:
    body = f"--b\r\n{head}\r\n\r\nOne-Click\r\n--b--\r\n"
    answer = httpx.post(link, content=body.encode(), headers={"Content-Type": f"multipart/form-data{odd}"})
    assert answer.status_code == status


def test_deeply_nested_multipart_is_refused(engine: sa.Engine, link: str) -> None:
    nested = b"".join(b"--b%d\nContent-Type: multipart/x; boundary=b%d\n\n" % (n, n + 1) for n in range(190))
    answer = httpx.post(link, content=nested, headers={"Content-Type": "multipart/form-data; boundary=b0"})
    assert answer.status_code == 400
    assert active_suppressions(engine) == []


def test_other_methods_are_refused(link: str) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = httpx.request(method, link)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")


def test_page_speaks_the_readers_language(link: str) -> None:
    for wanted, language, button in (
        ("", "en", "Unsubscribe"),
        ("de-AT,en;q=0.5", "de", "Abmelden"),
        ("fr;q=0.9, de;q=0.8", "fr", "Se désabonner"),
        ("nl, de;q=0", "en", "Unsubscribe"),
        ("x;q=much,*,de;q=0.1", "de", "Abmelden"),
    ):
        page = httpx.get(link, headers={"Accept-Language": wanted}).text
        assert f'<html lang="{language}">' in page
        assert f">{button}</button>" in page


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))


def test_page_loads_nothing_leaks_nothing_and_is_not_kept(link: str) -> None:
    answer = httpx.get(link)
    elements = _Page(answer.text).elements
    assert not {"script", "img", "link", "iframe"} & {tag for tag, _ in elements}
    assert not [attributes for _, attributes in elements if attributes.keys() & {"src", "href", "style", "action"}]
    policy = answer.headers["content-security-policy"]
    assert re.match(r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]+'; form-action 'self';", policy)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "noindex" in answer.headers["x-robots-tag"]
    assert "set-cookie" not in answer.headers
    token = urlsplit(link).path.rpartition("/")[2]
    assert token not in answer.text
    assert "ann@example.com" not in answer.text


def test_page_can_be_used_without_seeing_it(link: str) -> None:
    page = httpx.get(link).text
    elements = _Page(page).elements
    tags = [tag for tag, _ in elements]
    assert tags.count("h1") == tags.count("main") == tags.count("title") == tags.count("fieldset") == 1
    assert tags.index("legend") < tags.index("label") < tags.index("button")
    radios = [attributes for tag, attributes in elements if tag == "input"]
    assert [(each["type"], each["value"], "checked" in each) for each in radios] == [
        ("radio", "everything", True),
        ("radio", "campaign", False),
    ]
    assert page.count("<label><input") == 2


def test_log_holds_no_token_and_no_address(
    stack: LocalStack, link: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    httpx.post(link, data=ONE_CLICK)
    httpx.get(link + "x")
    stack.wait_until_idle()
    log = "".join(path.read_text() for path in tmp_path_factory.getbasetemp().glob("**/functions.log"))
    assert "scheduled_email_id" in log
    assert urlsplit(link).path.rpartition("/")[2] not in log
    assert "ann@example.com" not in log
