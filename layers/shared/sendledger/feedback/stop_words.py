"""Replies that say stop and nothing else: a reply's text in, whether it is a request to opt out.

Such a reply is proposed as one, and a person decides. Only the whole message counts, without words of politeness: what
may follow is a signature after two hyphens, or the quoted email.
"""

from __future__ import annotations

import itertools
import re
import unicodedata

LONGEST_REQUEST = 100
"""Characters."""

_PHRASES = """
unsubscribe | unsubscribe me | remove | remove me | stop | opt out | optout | opt me out | no more emails | stop it
remove me from your list | remove me from this list | remove me from the list | take me off your list | take me off
remove me from your mailing list | unsubscribe me from your list | unsubscribe me from this list | stop emailing
stop emailing me | stop contacting me | stop mailing me | do not contact me | do not email me | don t contact me
don t email me | don t contact me again | do not contact me again | do not email me again | stop sending me emails
退订 | 取消订阅 | 退訂 | 取消訂閱 | 不要再发邮件 | 不要再联系我
सदस्यता समाप्त करें | सदस्यता रद्द करें | मुझे हटाएं | मुझे हटा दें | रोकें | बंद करें
darse de baja | darme de baja | dar de baja | baja | cancelar suscripción | eliminarme | no me escriban más | borrarme
désabonner | me désabonner | désinscription | désinscrire | me désinscrire | désabonnez moi | retirez moi
إلغاء الاشتراك | الغاء الاشتراك | ألغوا اشتراكي | أزيلوني | توقف | احذفوني
আনসাবস্ক্রাইব | সদস্যতা বাতিল করুন | আমাকে সরিয়ে দিন | বন্ধ করুন
descadastrar | descadastre me | cancelar inscrição | cancelar subscrição | remover | remova me | me remova | sair
отписаться | отпишите меня | отписка | удалите меня | стоп | не пишите мне | уберите меня из рассылки
ان سبسکرائب | رکنیت ختم کریں | مجھے ہٹا دیں | بند کریں
berhenti berlangganan | hapus saya | batal berlangganan | berhenti
abmelden | abbestellen | austragen | entfernen | keine weiteren e mails
配信停止 | 配信停止してください | 登録解除 | 解除してください | 停止してください
"""


def _normal(line: str) -> str:
    # Marks belong to letters in the scripts of India; NFKC alone would leave them out of what counts as a word.
    kept = "".join(
        each if unicodedata.category(each)[0] in "LMN" else " "
        for each in unicodedata.normalize("NFKC", line).casefold()
    )
    return " ".join(kept.split())


# Around a request.
_POLITE = """
please | pls | merci | kindly | thanks | thank you | hi | hello | dear sir or madam | por favor | gracias | hola | svp
s il vous plaît | bonjour | bitte | danke | hallo | obrigado | obrigada | olá | пожалуйста | спасибо | здравствуйте
من فضلك | شكرا | कृपया | धन्यवाद | অনুগ্রহ করে | ধন্যবাদ | براہ کرم | شکریہ | tolong | mohon | terima kasih
"""


def _phrases(text: str) -> frozenset[str]:
    return frozenset(_normal(phrase) for line in text.splitlines() for phrase in line.split("|") if phrase.strip())


STOP, POLITE = _phrases(_PHRASES), _phrases(_POLITE)


def _request(text: str) -> str:
    """The text without the words of politeness around it."""
    text, before = _normal(text), ""
    while text != before:
        before = text
        for polite in POLITE:
            text = text.removeprefix(f"{polite} ").removesuffix(f" {polite}")
        text = text.removeprefix("请").removeprefix("請")
    return text


_QUOTE = re.compile(
    r"\s*(>|--|__|-{5}|\*{3}|(on|am|le|el|em|il|op|den|pada|från|from|von|de|da|от|sent|gesendet|envoyé|enviado|get)\b"
    r"|(发件人|差出人|在|من|في)).{0,500}",
    re.IGNORECASE | re.DOTALL,
)


def asks_to_stop(subject: str, text: str) -> bool:
    """Whether the whole message is a request to opt out; of a message without a text the subject counts."""
    lines = [line[:500] for line in text[:5_000].splitlines() if line.strip()]
    own = " ".join(itertools.takewhile(lambda line: not _QUOTE.fullmatch(line), lines))
    return len(own) < LONGEST_REQUEST and _request(own or subject[:LONGEST_REQUEST]) in STOP
