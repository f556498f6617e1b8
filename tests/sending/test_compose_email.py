"""What a campaign mail carries besides its text."""

from __future__ import annotations

import uuid

import pytest

from sendledger.content.render_email import compile_template
from sendledger.content.template_filters import RenderError
from sendledger.core.errors import SettingsError
from sendledger.core.settings import MailSettings
from sendledger.core.signed_tokens import EmailReference
from sendledger.ledger.claim_emails import ClaimedEmail
from sendledger.sending.compose_email import ComposedEmail, Composer, StepContent

SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SETTINGS = {
    "PUBLIC_URL": "https://mail.example.com/",
    "UNSUBSCRIBE_KEYS": f"k1:{SECRET}",
    "POSTAL_ADDRESS": "Acme & Söhne, 1 Main Street, Springfield",
}
LEAD_ID = uuid.uuid4()
LEAD = {"lead_id": LEAD_ID, "email": " ann@example.com ", "company_name": "Spa", "contact_name": "Ann Lee"}
EMAIL = ClaimedEmail(42, uuid.uuid4(), 1, LEAD)


def compose(
    text: str = "Hello {{ first_name }}",
    html: str | None = None,
    settings: dict[str, str] = SETTINGS,
    reply_to: str | None = None,
) -> ComposedEmail:
    content = StepContent(compile_template("Hi", text, html), "Launch", "Sales <sales@example.com>", reply_to)
    return Composer(MailSettings.read(settings), "email.amazonses.com").compose(content, EMAIL, uuid.uuid4())


def link() -> str:
    keys = MailSettings.read(SETTINGS).unsubscribe_keys
    assert keys is not None
    return f"https://mail.example.com/u/{keys.unsubscribe_token(EmailReference(42, EMAIL.campaign_id, LEAD_ID))}"


def test_headers_let_a_mail_client_unsubscribe_with_one_click() -> None:
    assert compose().outgoing.headers == (
        ("List-Unsubscribe", f"<{link()}>"),
        ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
    )


def test_headers_are_accepted_by_ses() -> None:
    composed = compose(settings=SETTINGS | {"PUBLIC_URL": "https://" + "a" * 180 + ".example"})
    for name, value in composed.outgoing.headers:
        assert len(name + value) <= 996
        assert value.isascii()
        assert value.isprintable()


def test_text_and_html_get_a_footer_with_link_and_postal_address() -> None:
    composed = compose(html="<html><body><p>Hello</p></BODY></html>").rendered
    assert composed.body_text == (f"Hello Ann\n\n--\nAcme & Söhne, 1 Main Street, Springfield\nUnsubscribe: {link()}\n")
    assert composed.body_html is not None
    assert "Acme &amp; Söhne, 1 Main Street, Springfield<br>" in composed.body_html
    assert f'<a ses:no-track href="{link()}"' in composed.body_html
    assert composed.body_html.endswith("</p>\n</BODY></html>")


def test_html_without_a_body_element_gets_its_footer_at_the_end() -> None:
    html = compose(html="<p>Hello</p>").rendered.body_html
    assert html is not None
    assert html.startswith("<p>Hello</p>\n<p style=")


def test_part_that_shows_the_link_itself_gets_the_postal_address_only() -> None:
    composed = compose("Bye: {{ unsubscribe_url }}", '<p>Hello</p><a href="{{ unsubscribe_url }}">stop</a>').rendered
    assert composed.body_html is not None
    assert composed.body_text.count(link()) == composed.body_html.count(link()) == 1
    assert "Unsubscribe" not in composed.body_text + composed.body_html
    assert "Springfield" in composed.body_text
    assert "Springfield" in composed.body_html


def test_stored_content_is_the_sent_content() -> None:
    composed = compose(html="<p>Hello</p>")
    assert (composed.outgoing.body_text, composed.outgoing.body_html) == (
        composed.rendered.body_text,
        composed.rendered.body_html,
    )
    assert composed.outgoing.to_address == "ann@example.com"


def test_without_settings_nothing_is_added() -> None:
    composed = compose(settings={}, reply_to="team@example.com")
    assert composed.outgoing.headers == ()
    assert composed.rendered.body_text == "Hello Ann"
    assert composed.outgoing.reply_to_addresses == ("team@example.com",)


def test_without_a_public_url_a_template_cannot_show_the_link() -> None:
    with pytest.raises(RenderError, match="unsubscribe_url"):
        compose("{{ unsubscribe_url }}", settings={})


def test_answer_goes_to_the_people_and_to_the_address_that_stops_the_sequence() -> None:
    people, own = compose(settings=SETTINGS | {"REPLY_DOMAIN": "reply.example.com"}).outgoing.reply_to_addresses
    assert people == "Sales <sales@example.com>"
    name, _, address = own.partition(" ")
    token, _, domain = address.strip("<>").removeprefix("reply+").partition("@")
    keys = MailSettings.read(SETTINGS).unsubscribe_keys
    assert keys is not None
    assert (name, keys.read_reply_token(token), domain) == ("Sales", 42, "reply.example.com")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", "http://mail.example.com"),
        ("PUBLIC_URL", "https://mail.example.com/?a=b"),
        ("PUBLIC_URL", "https://exämple.com"),
        ("UNSUBSCRIBE_KEYS", "k1:c2hvcnQ="),
        ("UNSUBSCRIBE_KEYS", f"K1:{SECRET}"),
        ("UNSUBSCRIBE_KEYS", f"k1:{SECRET},k1:{SECRET}"),
        ("UNSUBSCRIBE_KEYS", f"k1:{SECRET}ü"),
        ("POSTAL_ADDRESS", "Acme\nSpringfield"),
        ("REPLY_DOMAIN", "reply@example.com"),
    ],
)
def test_bad_setting_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as raised:
        MailSettings.read({**SETTINGS, name: value})
    assert value not in str(raised.value)


def test_links_need_a_key() -> None:
    with pytest.raises(SettingsError, match="UNSUBSCRIBE_KEYS"):
        MailSettings.read({"PUBLIC_URL": "https://mail.example.com"})


def test_settings_do_not_show_the_keys() -> None:
    assert SECRET not in repr(MailSettings.read(SETTINGS))


def test_link_to_unsubscribe_is_never_tracked() -> None:
    html = '<p>Hi</p><A class="x" href="{{ unsubscribe_url }}">stop</A> <a href="https://example.com/">site</a>'
    composed = compose(html=html).rendered.body_html
    assert composed is not None
    assert f'<A ses:no-track class="x" href="{link()}">stop</A>' in composed
    assert composed.count("ses:no-track") == 1
    footer = compose(html="<p>Hi</p>").rendered.body_html
    assert footer is not None
    assert f'<a ses:no-track href="{link()}"' in footer


@pytest.mark.parametrize(
    "html",
    [
        '<a ses:no-track href="{{ unsubscribe_url }}">stop</a>',
        '<a href="{{ unsubscribe_url }}" ses:no-track>stop</a>',
        '<a ses:no-track href="https://example.com/">{{ unsubscribe_url }}</a><p>{{ unsubscribe_url }}</p>',
    ],
)
def test_link_that_is_marked_and_url_outside_of_a_link_are_left_alone(html: str) -> None:
    composed = compose(html=html).rendered.body_html
    assert composed is not None
    assert composed.startswith(html.replace("{{ unsubscribe_url }}", link()))
