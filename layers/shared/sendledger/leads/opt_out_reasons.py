"""Which columns of a list say why an address must not be mailed, and what their values mean. No database.

Other products write their own words: Postmark `HardBounce`, SES `COMPLAINT`, SendGrid `550 5.1.1 No such user`.
"""

from __future__ import annotations

import functools
import re

from sendledger.core.vocabulary import SuppressionReason
from sendledger.leads.opt_outs import Sign, plain, plain_words, refuses

_COLUMNS = plain_words(
    "reason reasons suppressionreason reasonforsuppression type suppressiontype cause kind status event eventtype"
    # German, French, Spanish, Italian, Portuguese, Dutch
    " grund typ motif raison razón motivo tipo reden oorzaak"
)

_WORDS = {
    SuppressionReason.MANUAL: plain_words(
        "manual manually manuallyadded manualsuppression manuallysuppressed byhand admin administrator customer staff"
        " dnc donotcontact donotemail donotmail blacklist blacklisted blocklist blocklisted blocked"
        " gesperrt blockiert manuell"
    ),
    SuppressionReason.IMPORT: plain_words("import imported list upload uploaded other"),
    SuppressionReason.TRANSIENT_BOUNCES: plain_words("transient soft temporary transientbounces"),
    SuppressionReason.BOUNCE: plain_words(
        "hard permanent cleaned invalid invalidemail invalidaddress undeliverable undelivered rejected nonexistent"
        " doesnotexist nosuchuser userunknown unknownuser mailboxnotfound addressnotfound rebond unzustellbar"
    ),
    SuppressionReason.COMPLAINT: plain_words("spam abuse junk fbl feedbackloop beschwerde plainte queja reclamo"),
}
_SOFT = re.compile(r"(?:soft|transient|temporary)bounc")
_COMPLAINT = re.compile(r"complain|spamreport|reported(?:as)?spam|marked(?:as)?spam|reportspam|markspam")
_BOUNCE = re.compile(r"bounc|hardfail|permanentfail")
_SMTP = re.compile(r"(?:smtp;?\s*)?([45])(?:\d\d(?!\d)|\.\d{1,3}\.\d{1,3}\b)", re.IGNORECASE)
"""The code of a mail server's answer (RFC 5321, RFC 3463)."""


def is_reason_column(name: str) -> bool:
    """Whether a column of this name says why."""
    return plain(name) in _COLUMNS


@functools.lru_cache(maxsize=10_000)
def reason_of(value: str) -> SuppressionReason | None:
    """What another product's word for a reason means here; None if it is not known."""
    if answer := _SMTP.match(value.strip()):
        return SuppressionReason.BOUNCE if answer[1] == "5" else SuppressionReason.TRANSIENT_BOUNCES
    word = plain(value)
    for reason, words in _WORDS.items():
        if word in words:
            return reason
    for pattern, reason in (
        (_SOFT, SuppressionReason.TRANSIENT_BOUNCES),
        (_COMPLAINT, SuppressionReason.COMPLAINT),
        (_BOUNCE, SuppressionReason.BOUNCE),
    ):
        if pattern.search(word):
            return reason
    # What remains of the words for "must not be mailed" says that the person wanted so.
    return SuppressionReason.UNSUBSCRIBE if refuses(Sign.STATUS, value) else None
