"""Who said no is recognised in the columns of every product, and nobody else is taken for one of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest

from sendledger.leads.opt_outs import refuses, sign_of

REFUSALS = """
    HubSpot | Unsubscribed from all email | true
    HubSpot | Unsubscribed from all email | Yes
    HubSpot | Opted out of email: One to One | true
    HubSpot | Opted out of email: Marketing Information | TRUE
    HubSpot | hs_email_optout_12345 | true
    HubSpot | Email hard bounce reason | OTHER
    Mailchimp | UNSUB_TIME | 2024-01-01 10:00:00
    Mailchimp | UNSUB_REASON | NORMAL (this is normal)
    Mailchimp | OPTOUT_TIME | 01/02/2024
    Mailchimp | CLEAN_TIME | 2024-01-01 10:00:00
    Mailchimp | Status | cleaned
    Mailchimp | Email Marketing Status | Unsubscribed
    Shopify | Accepts Email Marketing | no
    Shopify | Accepts Marketing | no
    Shopify | Accepts Email Marketing | FALSE
    Klaviyo | Email Marketing Consent | UNSUBSCRIBED
    Klaviyo | Email Suppressed | true
    Salesforce | HasOptedOutOfEmail | 1
    Salesforce | Email Opt Out | true
    Salesforce | EmailBouncedDate | 2024-01-01T00:00:00Z
    Zoho | Email Opt-out | true
    Dynamics | Do not allow Emails | Do Not Allow
    Dynamics | Do not allow Bulk Emails | Yes
    Pinpoint | OptOut | ALL
    SendGrid | status | 5.1.1
    SendGrid | status | 5.7.1 (blocked)
    Brevo | Blocklisted | Yes
    Brevo | EMAIL_BLACKLISTED | true
    Brevo | Status | blocklisted
    ActiveCampaign | Status | Bounced
    MailerLite | Subscriber status | junk
    Constant Contact | Email status | Opted out
    Constant Contact | Email permission status | Unsubscribed
    Pipedrive | Marketing status | No consent
    Apollo | Email Status | Bounced
    Instantly | Lead Status | Unsubscribed
    lemlist | unsubscribed | true
    lemlist | Campaign status | Hard-bounced
    Kit | state | complained
    Sendledger | delivery_status | complained
    any | Status | UNSUBSCRIBED
    any | status |  Un-subscribed\N{NO-BREAK SPACE}
    any | Subscription Status | Unsubscribed by admin
    any | Email Status | Marked as spam
    any | Contact Status | Do Not Contact
    any | Do not contact | x
    any | DNC | Y
    any | Opted Out | ✓
    any | Opted In | no
    any | Opt-in | 0
    any | Subscribed | false
    any | Newsletter | Nein
    any | Unsubscribed | 2024-05-01
    German | Status | Abgemeldet
    German | Abgemeldet | ja
    German | Newsletter-Einwilligung | nein
    German | Werbesperre | Ja
    French | Désabonné | oui
    French | Statut | désinscrit
    Spanish | Estado | Dado de baja
    Spanish | Suscrito | no
    Italian | Stato | Disiscritto
    Portuguese | Status | Descadastrado
    Dutch | Status | Uitgeschreven
    Polish | Status | Wypisany
    Swedish | Status | Avregistrerad
    Russian | Статус | Отписан
    Japanese | ステータス | 配信停止
    Chinese | 状态 | 已退订
"""

HARMLESS = """
    Mailchimp | UNSUB_TIME |
    Mailchimp | OPTIN_TIME | 2024-01-01 10:00:00
    any | OPTOUT_TIME | 0000-00-00 00:00:00
    Shopify | Accepts Email Marketing | yes
    Shopify | Accepts Email Marketing |
    Shopify | Accepts SMS Marketing | no
    Klaviyo | Email Marketing Consent | SUBSCRIBED
    Klaviyo | Email Marketing Consent | NEVER_SUBSCRIBED
    Klaviyo | SMS Marketing Consent | UNSUBSCRIBED
    HubSpot | Unsubscribed from all email | false
    HubSpot | Unsubscribed from all email | No
    HubSpot | Marketing emails bounced | 2
    HubSpot | Marketing contact status | Non-marketing contact
    Salesforce | HasOptedOutOfFax | 1
    Dynamics | Do not allow Emails | Allow
    Pinpoint | OptOut | NONE
    Apollo | Email Status | Verified
    Instantly | Lead Status | Active
    any | Status | active
    any | Status | no
    any | Status | false
    any | Status | subscribed
    any | Status | Not unsubscribed
    any | Email Status | Soft bounced
    any | Unsubscribed | -
    any | Unsubscribed | n/a
    any | Unsubscribed | Never
    any | Unsubscribed | not opted out
    any | Unsubscribe link | https://example.com/u/1
    any | Bounce rate | 0.2
    any | ZeroBounce result | valid
    any | DeBounce response | Safe to send
    any | State | NE
    any | Order Status | blocked
    any | Plan | unsubscribed
    any | Opted In | yes
    German | Abgemeldet | nein
    French | Désabonné | non
"""


def cases(table: str) -> list[tuple[str, str]]:
    rows = [line.split("|") for line in table.strip("\n").splitlines()]
    return [(name.strip(" "), value.strip(" ")) for _, name, value in rows]


def says_no(name: str, value: str) -> bool:
    sign = sign_of(name)
    return sign is not None and bool(value) and refuses(sign, value)


@pytest.mark.parametrize(("name", "value"), cases(REFUSALS))
def test_refusal_is_recognised(name: str, value: str) -> None:
    assert says_no(name, value)


@pytest.mark.parametrize(("name", "value"), cases(REFUSALS))
def test_refusal_is_recognised_in_every_form_of_its_letters(name: str, value: str) -> None:
    forms: tuple[Callable[[str], str], ...] = (
        str.upper,
        str.title,
        lambda text: unicodedata.normalize("NFC", text),
        lambda text: unicodedata.normalize("NFD", text),
    )
    assert all(says_no(form(name), form(value)) for form in forms)


@pytest.mark.parametrize(("name", "value"), cases(HARMLESS))
def test_other_values_are_no_refusals(name: str, value: str) -> None:
    assert not says_no(name, value)
