"""The pages that recipients see: small and self-contained, without scripts, cookies or external resources.

A page's name and a language go in, HTML comes out. To translate them, add a language to `TEXTS`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape

from sendledger.core.vocabulary import UnsubscribeScope

TEXTS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "ask_title": "Unsubscribe",
        "sender": "These emails are from",
        "ask": "Which emails do you no longer want to get?",
        UnsubscribeScope.EVERYTHING: "All emails from this sender",
        UnsubscribeScope.CAMPAIGN: "Only the emails of this series",
        "confirm": "Unsubscribe",
        "by_mistake": "Unsubscribed by mistake?",
        "undo": "Undo",
        "done_title": "You are unsubscribed",
        "done_everything": "You will get no more emails from this sender.",
        "done_campaign": "You will get no more emails of this series.",
        "undone_title": "Your unsubscription is undone",
        "undone": "You may get emails from this sender again.",
        "undone_without_mail_title": "You will get no emails",
        "undone_without_mail": "This sender sends nothing to your address, for example because an email bounced "
        "or was reported as spam. Please write to the sender if you want emails again.",
        "not_found_title": "This link does not work",
        "not_found": "Please use the complete link from the email that you got.",
        "not_understood_title": "Nothing was changed",
        "not_understood": "The request could not be understood. Please use the button on this page.",
        "try_again_title": "Nothing was changed",
        "try_again": "This did not work just now. Please try again in a few minutes.",
    },
    "de": {
        "ask_title": "Abmelden",
        "sender": "Diese E-Mails sind von",
        "ask": "Welche E-Mails möchten Sie nicht mehr erhalten?",
        UnsubscribeScope.EVERYTHING: "Alle E-Mails dieses Absenders",
        UnsubscribeScope.CAMPAIGN: "Nur die E-Mails dieser Reihe",
        "confirm": "Abmelden",
        "by_mistake": "Versehentlich abgemeldet?",
        "undo": "Rückgängig machen",
        "done_title": "Sie sind abgemeldet",
        "done_everything": "Sie erhalten keine E-Mails dieses Absenders mehr.",
        "done_campaign": "Sie erhalten keine E-Mails dieser Reihe mehr.",
        "undone_title": "Ihre Abmeldung ist rückgängig gemacht",
        "undone": "Sie können wieder E-Mails dieses Absenders erhalten.",
        "undone_without_mail_title": "Sie erhalten keine E-Mails",
        "undone_without_mail": "Dieser Absender schickt nichts an Ihre Adresse, zum Beispiel weil eine E-Mail nicht "
        "zugestellt werden konnte oder als Spam gemeldet wurde. Bitte schreiben Sie dem Absender, wenn Sie wieder "
        "E-Mails erhalten möchten.",
        "not_found_title": "Dieser Link funktioniert nicht",
        "not_found": "Bitte verwenden Sie den vollständigen Link aus der E-Mail, die Sie erhalten haben.",
        "not_understood_title": "Es wurde nichts geändert",
        "not_understood": "Die Anfrage war nicht verständlich. Bitte verwenden Sie die Schaltfläche auf dieser Seite.",
        "try_again_title": "Es wurde nichts geändert",
        "try_again": "Das hat gerade nicht geklappt. Bitte versuchen Sie es in einigen Minuten noch einmal.",
    },
    "fr": {
        "ask_title": "Se désabonner",
        "sender": "Ces e-mails viennent de",
        "ask": "Quels e-mails ne souhaitez-vous plus recevoir\u00a0?",
        UnsubscribeScope.EVERYTHING: "Tous les e-mails de cet expéditeur",
        UnsubscribeScope.CAMPAIGN: "Seulement les e-mails de cette série",
        "confirm": "Se désabonner",
        "by_mistake": "Désabonné par erreur\u00a0?",
        "undo": "Annuler",
        "done_title": "Vous êtes désabonné",
        "done_everything": "Vous ne recevrez plus d’e-mails de cet expéditeur.",
        "done_campaign": "Vous ne recevrez plus d’e-mails de cette série.",
        "undone_title": "Votre désabonnement est annulé",
        "undone": "Vous pourrez de nouveau recevoir des e-mails de cet expéditeur.",
        "undone_without_mail_title": "Vous ne recevrez pas d’e-mails",
        "undone_without_mail": "Cet expéditeur n’envoie rien à votre adresse, par exemple parce qu’un e-mail n’a pas "
        "été remis ou a été signalé comme spam. Écrivez à l’expéditeur si vous souhaitez recevoir ses e-mails.",
        "not_found_title": "Ce lien ne fonctionne pas",
        "not_found": "Veuillez utiliser le lien complet de l’e-mail que vous avez reçu.",
        "not_understood_title": "Rien n’a été modifié",
        "not_understood": "La demande n’a pas été comprise. Veuillez utiliser le bouton de cette page.",
        "try_again_title": "Rien n’a été modifié",
        "try_again": "Cela n’a pas fonctionné. Veuillez réessayer dans quelques minutes.",
    },
}
DEFAULT_LANGUAGE = "en"

_STYLE = """
:root{color-scheme:light dark}
body{font:1.0625rem/1.5 system-ui,sans-serif;max-width:34rem;margin:0 auto;padding:3rem 1.25rem}
h1{font-size:1.5rem;line-height:1.25}
fieldset{border:0;margin:0;padding:0}
legend{padding:0}
strong{overflow-wrap:anywhere}
label{display:block;padding:.625rem 0}
input{width:1.125rem;height:1.125rem;margin:0 .5rem 0 0;vertical-align:-.125rem}
button{font:inherit;padding:.625rem 1.25rem;margin:1rem 0;border:2px solid;border-radius:.375rem;cursor:pointer}
.main{background:#1a4fba;border-color:#1a4fba;color:#fff}
.aside{margin-top:2rem}
:focus-visible{outline:3px solid #d97706;outline-offset:2px}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    # Nothing is loaded or run; forms are sent to this page, which cannot be framed.
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    # The path is the token.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
    "Strict-Transport-Security": "max-age=31536000",
    "Vary": "Accept-Language",
}


def language_for(accept_language: str) -> str:
    """The best of our languages for an Accept-Language header (RFC 9110, 12.5.4)."""
    wanted: list[tuple[float, str]] = []
    for part in accept_language[:1000].split(","):
        tag, _, parameter = part.partition(";")
        quality = 1.0
        if parameter.strip().startswith("q="):
            try:
                quality = float(parameter.strip()[2:])
            except ValueError:
                quality = 0.0
        language = tag.strip().lower().partition("-")[0]
        if language in TEXTS and quality > 0:
            wanted.append((quality, language))
    # Of equal ones the first: max keeps it.
    return max(wanted, key=lambda each: each[0])[1] if wanted else DEFAULT_LANGUAGE


def ask(language: str, sender: str | None, *, can_undo: bool) -> str:
    """The page with the sender where it is known, the choice with a button to confirm it, and an undo button if there
    is something to undo."""
    text = TEXTS[language]
    choices = "".join(
        f'<label><input type="radio" name="scope" value="{scope}"{checked}>{escape(text[scope])}</label>'
        for scope, checked in ((UnsubscribeScope.EVERYTHING, " checked"), (UnsubscribeScope.CAMPAIGN, ""))
    )
    named = f"<p>{escape(text['sender'])} <strong>{escape(sender)}</strong></p>" if sender else ""
    content = (
        f'{named}<form method="post"><fieldset><legend>{escape(text["ask"])}</legend>{choices}</fieldset>'
        f'<button class="main" name="action" value="unsubscribe">{escape(text["confirm"])}</button></form>'
    )
    return _page(language, "ask_title", content + (_undo_form(language) if can_undo else ""))


def done(language: str, scope: str) -> str:
    return _page(language, "done_title", _paragraph(language, f"done_{scope}") + _undo_form(language))


def message(language: str, name: str) -> str:
    """One of undone, undone_without_mail, not_found, not_understood, try_again."""
    return _page(language, f"{name}_title", _paragraph(language, name))


def _undo_form(language: str) -> str:
    text = TEXTS[language]
    return (
        f'<form method="post" class="aside"><p>{escape(text["by_mistake"])}</p>'
        f'<button name="action" value="undo">{escape(text["undo"])}</button></form>'
    )


def _paragraph(language: str, name: str) -> str:
    return f'<p role="status">{escape(TEXTS[language][name])}</p>'


def _page(language: str, title: str, content: str) -> str:
    heading = escape(TEXTS[language][title])
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="robots" content="noindex, nofollow">\n'
        f"<title>{heading}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{heading}</h1>\n{content}\n</main>\n</body>\n</html>\n"
    )
