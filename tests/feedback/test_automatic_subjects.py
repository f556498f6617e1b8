"""Subjects of automatic replies are told from those that people write.

The lists are written after mail programs and public reports, not after the phrases that the product knows.
"""

from __future__ import annotations

import unicodedata

import pytest

from sendledger.feedback.automatic_phrases import PHRASES
from sendledger.feedback.automatic_subjects import is_automatic_subject

EXCHANGE = """
Automatic reply: Quick question
Automatische Antwort: Frage
Réponse automatique : Question
Réponse automatique: Question
Respuesta automática: Pregunta
Risposta automatica: Domanda
Automatisch antwoord: Vraag
Resposta automática: Pergunta
Autosvar: Fråga
Automatiskt svar: Fråga
Automatisk svar: Spørgsmål
Automaattinen vastaus: Kysymys
Odpowiedź automatyczna: Pytanie
Autoodpowiedź: Pytanie
Automatická odpověď: Dotaz
Automatická odpoveď: Otázka
Automatikus válasz: Kérdés
Răspuns automat: Întrebare
Автоматичен отговор: Въпрос
Автоматический ответ: Вопрос
Автоматична відповідь: Питання
Αυτόματη απάντηση: Ερώτηση
Otomatik yanıt: Soru
OTOMATİK YANIT: Soru
Automatski odgovor: Pitanje
Samodejni odgovor: Vprašanje
Аутоматски одговор: Питање
Automaatvastus: Küsimus
Automātiska atbilde: Jautājums
Automatinis atsakymas: Klausimas
自動応答: 質問
自動返信: 質問
자동 회신: 질문
自动答复: 问题
自动回复: 问题
自動回覆: 問題
رد تلقائي: سؤال
מענה אוטומטי: שאלה
תשובה אוטומטית: שאלה
ตอบกลับอัตโนมัติ: คำถาม
Trả lời Tự động: Câu hỏi
Balasan otomatis: Pertanyaan
Balasan automatik: Soalan
स्वचालित उत्तर: प्रश्न
Resposta automàtica: Pregunta
Erantzun automatikoa: Galdera
پاسخ خودکار: سوال
Outomatiese antwoord: Vraag
Sjálfvirkt svar: Spurning
Ateb awtomatig: Cwestiwn
"""
"""What Exchange and Outlook of today put before the subject, by the language of the mailbox."""

OLD_OUTLOOK = """
Out of Office AutoReply: Quick question
Out of office: Quick question
Out Of Office Re: Quick question
Abwesenheitsnotiz: Frage
Abwesenheitsnotiz Re: Frage
Abwesend: Frage
Absence du bureau : Question
Réponse automatique d'absence du bureau : Question
Fuera de la oficina: Pregunta
Respuesta automática de fuera de oficina: Pregunta
Fuori ufficio: Domanda
Fuori sede: Domanda
Afwezigheidsbericht: Vraag
Afwezig: Vraag
Frånvaro: Fråga
Frånvarande: Fråga
Ikke til stede: Spørgsmål
Autosvar ved fravær
Fraværsmelding: Hei
Poissa: Kysymys
Poissaoloilmoitus: Kysymys
Poza biurem: Pytanie
Ausência Temporária: Pergunta
Ausência temporária do escritório
Mimo kancelář: Dotaz
Нет на рабочем месте: Вопрос
İş yeri dışında: Soru
Házon kívül: Kérdés
"""
"""What Outlook wrote before 2010, and what its assistants write."""

NOTES = """
AUTO: Ann Lee is out of the office (returning 05/04/2026)
Ann Lee is out of the office.
Ann Lee/HQ/Acme is out of the office.
AUTO: Max Mustermann ist außer Haus (Rückkehr am 04.05.2026)
Max Mustermann/Firma ist außer Haus.
Max Mustermann ist nicht am Arbeitsplatz
Jean Dupont est absent(e).
AUTO : Jean Dupont est absent(e) du bureau
Ana Gómez está fuera de la oficina
Ana Gomes está fora do escritório
Mario Rossi è fuori sede
Mario Rossi non è in ufficio
Jan Jansen is niet op kantoor
Jan Kowalski jest poza biurem
Anna Svensson är inte på kontoret
Anna Svensson är frånvarande
Anne Hansen er ikke på kontoret
Matti Meikäläinen on poissa
Matti Meikäläinen ei ole paikalla
Jan Novák je mimo kancelář
Ann Lee is not in the office
"""
"""Notes names the person."""

AUTORESPONDERS = """
Yahoo! Auto Response
Auto Response: hi
Auto-Reply: hi
Autoreply: hi
AutoReply
[Auto-Reply] hi
[AUTO] hi
Auto: hi
Automated reply: hi
Automatic response
Automated response: hi
This is an automated reply
This is an automatic reply
This is an automated response to your email
I'm out of the office
I am out of the office until Monday
I'm currently out of the office Re: hi
Currently out of office
Out of the office until May 4
OOO: hi
OOO
OOO until Monday
OOO - back 4 May
[OOO] hi
OoO Re: hi
Vacation reply
Vacation Autoreply
On vacation
On vacation until 4 May
On leave until 4 May
On annual leave
On maternity leave
On parental leave Re: hi
Maternity leave
Away from office
Away until Monday
Away from my desk
Annual leave
Absence notification
Notice of absence
Absent until Monday
Absent jusqu'au 4 mai
Absente
En congés jusqu'au 4 mai
Congés
Je suis absente
Je suis actuellement absent
Je suis en vacances
Im Urlaub bis 4. Mai
Urlaub bis 4. Mai
Urlaubsabwesenheit
Ich bin derzeit nicht im Büro
Ich bin zur Zeit nicht im Büro
Ich bin aktuell nicht erreichbar
Nicht im Haus
Nicht erreichbar bis 4. Mai
Abwesenheit bis 4. Mai
Abwesenheit vom 1.5. bis 4.5.
Automatische Abwesenheitsnachricht
Eingangsbestätigung
Automatische Empfangsbestätigung
De vacaciones hasta el lunes
Vacaciones
Estoy de vacaciones
Ausente hasta el lunes
Me encuentro de vacaciones
In ferie fino al 4 maggio
Assente fino al 4 maggio
Sono in ferie
Férias
Estou de férias
Op vakantie tot 4 mei
Vakantie
Ik ben op vakantie
Afwezig tot 4 mei
В отпуске до 4 мая
Отпуск
Я в отпуске
Na urlopie do 4 maja
Jestem na urlopie
Urlop
Semester
På semester
Ferie
På ferie
Lomalla
Olen lomalla
Szabadság
Szabadságon vagyok
Concediu
În concediu
Dovolená
Na dovolené
İzindeyim
Yıllık izin
休暇中
不在通知
不在のお知らせ
不在にしております
外出中
휴가 중입니다
부재중입니다
休假中
我正在休假
外出自动回复
"""
"""What autoresponders of Gmail, Yahoo, GMX and others have, and what people type into them."""

DELIVERY = """
Undeliverable: Quick question
Delivery Status Notification (Failure)
Mail delivery failed: returning message to sender
Undelivered Mail Returned to Sender
Returned mail: see transcript for details
failure notice
Unzustellbar: Frage
Non remis : Question
No se puede entregar: Pregunta
"""
"""What mail servers write when they could not deliver."""

TAGGED = """
[EXTERNAL] Automatic reply: hi
[EXTERNAL]Automatic reply: hi
EXTERNAL: Automatic reply: hi
EXTERNAL - Automatic reply: hi
(External) Automatic reply: hi
{External} Automatic reply: hi
<External> Automatic reply: hi
[EXT] Out of Office
[EXT]: Out of Office
{Spam?} Automatic reply: hi
***SPAM*** Automatic reply: hi
[SUSPECTED SPAM] Automatic reply: hi
Suspected Spam: Automatic reply: hi
[External Email] [SPAM] Automatische Antwort: hi
[External Sender] Réponse automatique : hi
[EXTERNE] Réponse automatique : hi
[Extern] Automatische Antwort: hi
CAUTION EXTERNAL EMAIL: Automatic reply: hi
[社外] 自動応答: x
【社外メール】自動返信
[외부] 자동 회신: x
[Внешняя почта] Автоматический ответ: x
[Externo] Respuesta automática: x
[ACME-EXT] [CAUTION] Automatic reply
External Mail | Automatic reply: x
"Automatic reply: x"
  Automatic   reply : x
ＡＵＴＯ：　x
＜自動返信＞質問
【自動返信】質問
★自動返信★ 質問
✈ Out of office
🌴 On vacation
🌴 OOO until May 4
**Automatic reply** x
Auto-réponse: x
Réponse d'absence
Message d'absence: x
Message automatique
Mensaje automático
Messaggio automatico
Auto-Antwort: x
Autoantwort
Aviso de ausencia
Automatyczna odpowiedź: x
Automaattivastaus: x
Automatikus üzenet
Automatic\u00a0reply: x
Automatic\u200b reply: x
\u200f[חיצוני] תשובה אוטומטית: x
\u26a0 Caution External Sender - Αυτόματη απάντηση: x
"""
"""What gateways put before, and other forms."""

PERSONS = """
Re: Automatic reply: hi
RE: Out of Office: hi
AW: Automatische Antwort: hi
Re: [EXTERNAL] Automatic reply
Quick question
Out of office hours question
Out of office supplies?
Absence of prices on your page
Absence de réponse de votre part
Absence de facture
Absent-minded question
Absent from your list
Autoresponder question
Autoreply feature request
Automatic replying to leads
Automatic
Automation of our replies
Auto insurance quote
Auto parts for you
Vacation rental offer
Vacation plans
On vacation rentals
On leave management software
On holiday packages
Holiday greetings
Away game tickets
Urlaub im Mai - Angebot
Urlaubsanfrage
Abwesenheiten verwalten
Abwesenheitsnotiz einrichten?
Ausentes en la lista
Congés payés: question
Vacaciones en Mallorca
Ferie i Danmark
Férias em Portugal
Semester program
Semester abroad
Dovolená v Chorvatsku
Отпуск в Турции
不在時の対応について
外出のご案内
自動化について
自动化方案
休假政策
Auto-ID Systems
Autosvaret vårt
Your out of office message
My out of office days
Yes, interested
Please call me
Is Ann out of the office today?
Interested, but on leave next week
I am away next week, call me after
OOOh nice
Ooops
I'm away for a week - let's talk then
Undeliverable promises
Delivery status of our order
Failure notice period
Returned mail question
Poissa? kysymys
External offer
[External] Re: your offer
[JIRA] Automation
Eingangsbestätigung fehlt
Notice of absence policy
[EXTERNAL] AW: Abwesenheitsnotiz
回复: 自动回复
Re: Ann is out of the office today
Autos: our offer
Our vacations
Absence de 3 factures
On leave to remain
"""
"""What people write, some of it in answer to our mail with a subject of their own."""

KINDS = {
    "Exchange": EXCHANGE,
    "old Outlook": OLD_OUTLOOK,
    "Notes": NOTES,
    "autoresponders": AUTORESPONDERS,
    "mail servers": DELIVERY,
    "tagged": TAGGED,
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("kind", KINDS)
def test_automatic_subject_is_known(kind: str, form: str) -> None:
    subjects = [unicodedata.normalize(form, subject) for subject in KINDS[kind].strip().splitlines()]  # type: ignore[arg-type]
    assert [subject for subject in subjects if not is_automatic_subject(subject)] == []


def test_subjects_of_at_least_26_languages_are_tried() -> None:
    assert len(EXCHANGE.strip().splitlines()) > 40


@pytest.mark.parametrize("subject", ["", *PERSONS.strip().splitlines()])
def test_subject_of_a_person_does_not_look_automatic(subject: str) -> None:
    assert not is_automatic_subject(subject)


@pytest.mark.parametrize(
    "tag", ["", "[EXTERNAL] ", "EXTERNAL: ", "[EXT] [Sales] ", "*** External Mail *** ", "【外部】", "{Spam?} "]
)
def test_phrases_of_every_language_are_known_behind_a_tag(tag: str) -> None:
    missed = [
        (language, subject)
        for language, phrases in PHRASES.items()
        for phrase in phrases
        for form in ("NFC", "NFD")
        for subject in (
            f"{tag}{phrase}: Hello",
            f"{tag}{phrase.upper()} - Hello",
            f"{tag}[{phrase}] Hello",
            tag + phrase,
        )
        if not is_automatic_subject(unicodedata.normalize(form, subject))
    ]
    assert missed == []
