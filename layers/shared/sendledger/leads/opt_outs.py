"""Which columns of a file say that a person must not be mailed, and with which values. No database.

Other products write this in three ways. A flag names the refusal (``Unsubscribed from all email``, ``UNSUB_TIME``):
every value but a "no" is a refusal. A consent names the permission (``Accepts Email Marketing``): a "no" is a refusal.
A status (``Email Status``) is a refusal if its value is the name of one. All are compared in the form of `plain`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from enum import StrEnum


class Sign(StrEnum):
    """How a column says that a person must not be mailed."""

    FLAG = "flag"
    CONSENT = "consent"
    STATUS = "status"


def plain(text: str) -> str:
    """The text in lower case, without accents, blanks and punctuation: ``Désabonné(e)`` is ``desabonnee``."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
        text = text.replace("ı", "i")  # the capital letter of both is I, outside of Turkish
    return re.sub(r"[\W_]+", "", text.casefold())


def plain_words(text: str) -> frozenset[str]:
    """Each of the words of a list in plain form."""
    return frozenset(map(plain, text.split()))


def _pattern(words: str) -> str:
    return "|".join(sorted(plain_words(words)))


_REFUSALS = _pattern(
    "unsub optout optedout optingout dontemail dontcontact donotemail donotmail donotcontact donotsend donotmarket"
    " donotallowemail donotallowbulkemail donotbulkemail blocklist blacklist denylist bounce complain complaint"
    " spamreport reportedspam reportedasspam markedspam markedasspam suppress cleantime"
    # German, French, Spanish, Italian, Portuguese, Dutch
    " abgemeldet abmeld abbestell ausgetragen widersprochen widerspruch werbesperre mailsperre keinewerbung"
    " nichtkontaktieren nichtanschreiben unzustellbar"
    " désabonn désinscri nepascontacter listenoire rebond"
    " dadodebaja dadadebaja dardebaja debaja desuscri suscripcióncancelada nocontactar listanegra rebotad rebote"
    " disiscri cancellatodall noncontattare respint"
    " descadastr cancelouainscrição inscriçãocancelada nãocontatar nãocontactar devolvid"
    " uitgeschreven afgemeld uitschrijv nietmailen nietbenaderen"
    # Polish, Swedish, Danish, Norwegian, Finnish, Czech, Hungarian, Romanian, Turkish, Russian, Ukrainian
    " wypisan zrezygnował niekontaktować avregistrera avprenumerera avanmäl afmeldt frameldt avmeldt peruuttanut"
    " peruutettu odhlášen leiratkozott dezabonat aboneliktençık отписа отписк відписа"
    # Japanese, Chinese, Korean
    " 配信停止 購読解除 オプトアウト 退订 退訂 取消订阅 取消訂閱 수신거부"
)
_REFUSAL = re.compile(_REFUSALS)
_REFUSAL_DENIED = re.compile(
    rf"(?:not?|never|non|nicht|soft)(?:{_REFUSALS})|(?:zero|de)bounce|un(?:suppress|block|black)"
)
"""Not unsubscribed, soft bounce; ZeroBounce and NeverBounce are products that check addresses."""

_REFUSING_VALUES = plain_words(
    "dnc dne baja cleaned archived deleted nonsubscribed blocked spam junk abuse revoked withdrawn notsubscribed"
    " noconsent nolongersubscribed"
    " gesperrt blockiert bereinigt nettoyé bloqué limpiado depurado bloqueado bloccato geblokkeerd отказ"
)
_HARD_BOUNCE = re.compile(r"5\.\d{1,3}\.\d{1,3}\b")
"""A delivery status of SMTP, as SendGrid lists it (RFC 3463)."""

_NO = plain_words(
    "no n f false off unchecked declined denied refused rejected nein falsch non faux falso nao nee onwaar nej nei"
    " falsk nie fałsz ei epätosi ne nepravda nem hamis nu fals hayır yanlış нет ложь ні いいえ 否 아니요 아니오"
)
_NOTHING = plain_words(
    "none null nil nan na never undefined unknown unset notset active subscribed optedin optin in allow allowed"
    " confirmed ok valid good deliverable delivered sent soft transient temporary"
    " keine aucun ninguno nessuno nenhum geen brak aktiv angemeldet abonné"
)
_CHECKED = frozenset("✓✔☑✅☒")

_FLAG_NAMES = plain_words("dnc dne baja")
_CONSENT_NAME = re.compile(
    _pattern(
        "acceptsmarketing acceptmarketing acceptsemail acceptemail optin optedin consent newsletter mailable"
        " contactable canemail maysendemail permission emailallowed allowemail allowsemail receiveemail receivesemail"
        " receivemarketing receivesmarketing wantsemail canbeemailed canbemailed canbecontacted canreceiveemail"
        " einwilligung zustimmung angemeldet abonniert abonné inscrit suscrito consentement consentimiento iscritto"
        " consenso inscrito consentimento assinante toestemming ingeschreven zgoda samtycke prenumere tilmeldt"
        " samtykke suostumus souhlas согласие подписан 同意 订阅 수신동의"
    )
    + "|^(?:is)?e?(?:mail)?subscribed|^(?:email)?marketing$|^subscriber$"
)
_STATUS_WORDS = _pattern(
    "status statut state estado stato situação deliverability"
    " tillstånd tilstand stav állapot státusz durum статус состояние 状态 狀態 状態 ステータス 상태"
)
_STATUS_ALONE = _pattern(
    "stan tila tilaus tilauksentila stare стан subscription emailsubscription abonnement laststate"
)
"""Parts of other words, so they are the whole name."""
_STATUS_OF = _pattern(
    "mail subscri contact kontakt contatto member marketing lead delivery list abo audience recipient empfänger"
    " sequence campaign interest reply suscri iscri inscri correo verifi validation"
    " post pošt tilau odběr feliratkoz abon подпис почт рассыл підпис пошт розсил"
    " メール 配信 購読 订阅 訂閱 邮件 郵件 구독 메일 수신"
)
_STATUS_NAME = re.compile(rf"^(?:{_STATUS_WORDS}|{_STATUS_ALONE})$|(?=.*(?:{_STATUS_WORDS})).*(?:{_STATUS_OF})")
_OTHER_CHANNELS = plain_words("fax sms mms phone call calls text whatsapp push post postal telefon tel")
_NOT_ABOUT_THE_PERSON = plain_words(
    "link url href token page count counts number total rate template group footer score bouncer"
)
_WORDS = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[^\W\d_a-z]+")


def sign_of(name: str) -> Sign | None:
    """How a column of this name says that a person must not be mailed, if it can."""
    key = plain(name)
    words = {word.casefold() for word in _WORDS.findall(name)}
    if words & _OTHER_CHANNELS or "fax" in key:
        return None
    if key in _FLAG_NAMES or (_REFUSAL.search(key) and not _REFUSAL_DENIED.search(key)):
        counts = "#" in name or ("emails" in words and "bounce" in key)
        return None if counts or words & _NOT_ABOUT_THE_PERSON else Sign.FLAG
    if _CONSENT_NAME.search(key):
        return Sign.CONSENT
    return Sign.STATUS if _STATUS_NAME.match(key) else None


@functools.lru_cache(maxsize=10_000)
def refuses(sign: Sign, value: str) -> bool:
    """Whether this value, in a column with this sign, says that the person must not be mailed."""
    word = plain(value)
    if sign is Sign.FLAG:
        if not word.strip("0"):  # 0, -, 0000-00-00 00:00:00
            return not _CHECKED.isdisjoint(value)
        harmless = word in _NO or word in _NOTHING or word.startswith("http") or _REFUSAL_DENIED.search(word)
        return not harmless
    if sign is Sign.CONSENT and (word in _NO or word == "0"):
        return True
    if word in _REFUSING_VALUES or _HARD_BOUNCE.match(value.strip()):
        return True
    return bool(_REFUSAL.search(word)) and not _REFUSAL_DENIED.search(word)
