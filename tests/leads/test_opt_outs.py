"""Who said no is recognised in the columns of every product, and nobody else is taken for one of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest

from sendledger.leads.lead_columns import is_address_column
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
    Smartlead | status | BLOCKED
    Smartlead | is_unsubscribed | true
    lemlist | unsubscribed | true
    lemlist | lastState | emailsUnsubscribed
    lemlist | lastState | emailsBounced
    lemlist | leadStatus | Unsubscribed from email
    lemlist | leadStatus | Email bounced
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
    Mailchimp | Status | Archived
    Mailchimp | Status | Non-Subscribed
    Smartlead | Reply Status | Unsubscribed
    any | Opted Out | ✓
    any | Opted In | no
    any | Opt-in | 0
    any | Subscribed | false
    any | Is Subscribed | false
    any | is_subscribed | 0
    any | Can be contacted | No
    any | Can be emailed | no
    any | Marketing | no
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
    any | Is Subscribed | true
    any | Can be contacted | Yes
    any | Marketing | yes
    any | Standard | no
    Romanian | Stare | Activ
    Korean | 상태 | 구독
    German | Abgemeldet | nein
    French | Désabonné | non
"""

LANGUAGES = """
    German E-Mail-Adresse | Status | Abgemeldet
    French Adresse de messagerie | Statut | Désabonné
    Spanish Correo electrónico | Estado | Dado de baja
    Italian Indirizzo e-mail | Stato | Disiscritto
    Portuguese Endereço de e-mail | Situação | Descadastrado
    Dutch E-mailadres | Status | Uitgeschreven
    Polish Adres poczty elektronicznej | Stan | Wypisany
    Swedish E-postadress | Tillstånd | Avregistrerad
    Danish E-mail | Status | Afmeldt
    Norwegian E-postadresse | Tilstand | Avmeldt
    Finnish Sähköpostiosoite | Tilaus | Peruutettu
    Finnish Sähköposti | Tila | Peruuttanut
    Finnish Sähköposti | Tilauksen tila | Peruutettu
    Czech E-mailová adresa | Stav | Odhlášen
    Hungarian E-mail cím | Állapot | Leiratkozott
    Romanian Adresă de e-mail | Stare | Dezabonat
    Turkish E-posta adresi | Durum | Abonelikten çıktı
    Turkish E-posta | E-posta durumu | Abonelikten çıktı
    Russian Электронная почта | Статус | Отписан
    Russian Почта | Состояние подписки | Отписался
    Ukrainian Електронна пошта | Стан | Відписаний
    Japanese メールアドレス | ステータス | 配信停止
    Japanese メール | 状態 | 購読解除
    Chinese 电子邮件地址 | 状态 | 已退订
    Chinese 電子郵件地址 | 訂閱狀態 | 取消訂閱
    Korean 이메일 | 상태 | 수신거부
    Korean 전자 메일 주소 | 구독 상태 | 수신 거부
"""
"""Each language whose names of an address are known: its status and the value of a person who has opted out."""


def cases(table: str) -> list[tuple[str, str]]:
    rows = [line.split("|") for line in table.strip("\n").splitlines()]
    return [(name.strip(" "), value.strip(" ")) for _, name, value in rows]


def says_no(name: str, value: str) -> bool:
    sign = sign_of(name)
    return sign is not None and bool(value) and refuses(sign, value)


@pytest.mark.parametrize("line", LANGUAGES.strip("\n").splitlines())
def test_status_is_recognised_in_each_language_of_the_addresses(line: str) -> None:
    address, name, value = (part.strip() for part in line.split("|"))
    language, _, header = address.partition(" ")
    assert is_address_column(header), language
    assert all(
        says_no(unicodedata.normalize(form, name), cased(unicodedata.normalize(form, value)))
        for form in ("NFC", "NFD")
        for cased in (str.upper, str.lower)
    )


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
