"""Replies that say stop and nothing else: a reply's text in, whether it is a request to opt out.

Such a reply is proposed as one, and a person decides. Only the first line counts, and only if it is the whole message:
what may follow is a signature after two hyphens, or the quoted email.
"""

from __future__ import annotations

import re
import unicodedata

_PHRASES = """
unsubscribe | please unsubscribe | unsubscribe me | please unsubscribe me | remove | remove me | please remove me | stop
remove me from your list | please remove me from your list | remove me from this list | take me off your list | opt out
stop emailing me | please stop emailing me | do not contact me | do not email me | no more emails | stop please | optout
退订 | 取消订阅 | 请退订 | 请取消订阅 | 退訂 | 取消訂閱 | 不要再发邮件 | 请不要再发邮件
सदस्यता समाप्त करें | सदस्यता रद्द करें | मुझे हटाएं | मुझे हटा दें | रोकें | बंद करें
darse de baja | darme de baja | dar de baja | baja | cancelar suscripción | eliminarme | no me escriban más | borrarme
désabonner | me désabonner | désinscription | désinscrire | me désinscrire | désabonnez moi | stop merci | retirez moi
إلغاء الاشتراك | الغاء الاشتراك | ألغوا اشتراكي | أزيلوني | توقف | احذفوني
আনসাবস্ক্রাইব | সদস্যতা বাতিল করুন | আমাকে সরিয়ে দিন | বন্ধ করুন
descadastrar | descadastre me | cancelar inscrição | cancelar subscrição | remover | remova me | me remova | sair
отписаться | отпишите меня | отписка | удалите меня | стоп | не пишите мне | уберите меня из рассылки
ان سبسکرائب | رکنیت ختم کریں | مجھے ہٹا دیں | بند کریں
berhenti berlangganan | hapus saya | batal berlangganan | berhenti
abmelden | bitte abmelden | abbestellen | austragen | bitte austragen | bitte entfernen | keine weiteren e mails
配信停止 | 配信停止してください | 登録解除 | 解除してください | 停止してください
"""


def _normal(line: str) -> str:
    # Marks belong to letters in the scripts of India; NFKC alone would leave them out of what counts as a word.
    kept = "".join(
        each if unicodedata.category(each)[0] in "LMN" else " "
        for each in unicodedata.normalize("NFKC", line).casefold()
    )
    return " ".join(kept.split())


STOP = frozenset(_normal(phrase) for line in _PHRASES.splitlines() for phrase in line.split("|") if phrase.strip())

_QUOTE = re.compile(
    r"\s*(>|--|__|-{5}|\*{3}|(on|am|le|el|em|il|op|den|pada|från|from|von|de|da|от|sent|gesendet|envoyé|enviado|get)\b"
    r"|(发件人|差出人|在|من|في)).{0,500}",
    re.IGNORECASE | re.DOTALL,
)


def asks_to_stop(subject: str, text: str) -> bool:
    """Whether the whole message is a request to opt out; of a message without a text the subject counts."""
    lines = [line for line in text[:5_000].splitlines() if line.strip()]
    if not lines or _QUOTE.fullmatch(lines[0][:500]):
        return _normal(subject) in STOP
    return len(lines[0]) < 100 and _normal(lines[0]) in STOP and (len(lines) == 1 or bool(_QUOTE.match(lines[1])))
