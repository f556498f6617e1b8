"""What automatic replies have as their subjects, in many languages. Data only.

The phrases are those of Outlook, Exchange, Gmail, Notes and common autoresponders. `automatic_subjects` says where in a
subject they count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_PHRASES = """
af = outomatiese antwoord | outomatiese reaksie | buite kantoor | buite die kantoor
ar = رد تلقائي | الرد التلقائي | رد آلي | الرد الآلي | إجابة تلقائية | رسالة تلقائية | خارج المكتب |
  أنا خارج المكتب | غير موجود في المكتب | في إجازة
az = avtomatik cavab | ofisdən kənarda
be = аўтаматычны адказ | аўтаадказ | па-за офісам
bg = автоматичен отговор | автоматично съобщение | извън офиса | отсъствие от офиса | отсъствам
bn = স্বয়ংক্রিয় উত্তর | স্বয়ংক্রিয় জবাব | অফিসের বাইরে
bs = automatski odgovor | van ureda
ca = resposta automàtica | fora de l'oficina | fora d'oficina | absència de l'oficina
cs = automatická odpověď | automatická zpráva | automaticky generovaná odpověď | mimo kancelář |
  nejsem v kanceláři | nepřítomnost | nepřítomen | oznámení o nepřítomnosti | dovolená | čerpám dovolenou |
  na dovolené
cy = ateb awtomatig | allan o'r swyddfa
da = automatisk svar | autosvar | auto svar | fravær | fraværende | fraværsmeddelelse | fraværsbesked |
  ikke til stede | ikke på kontoret | ikke tilstede | ude af kontoret | på ferie | autosvar ved fravær
de = automatische antwort | automatische rückantwort | automatisch generierte antwort | automatische nachricht |
  automatische abwesenheitsnotiz | automatische abwesenheitsnachricht | automatische empfangsbestätigung |
  automatische eingangsbestätigung | abwesenheit | abwesenheitsnotiz | abwesenheitsmeldung | abwesenheitsnachricht |
  abwesenheitsassistent | abwesenheitsbenachrichtigung | abwesenheitsinfo | urlaubsabwesenheit | auto antwort |
  autoantwort | eingangsbestätigung | urlaub | abwesenheitshinweis | abwesend | nicht im büro | nicht im buero |
  nicht am platz | ich bin nicht im büro | ich bin nicht im haus | ich bin nicht erreichbar |
  ich bin derzeit nicht im | ich bin derzeit nicht erreichbar | ich bin zur zeit nicht im |
  ich bin zurzeit nicht im | nicht im haus | ich bin aktuell nicht im | ich bin aktuell nicht erreichbar |
  ich bin momentan nicht im | nicht erreichbar bis | wir haben ihre anfrage erhalten |
  wir haben ihre nachricht erhalten | ich bin abwesend | ich bin im urlaub | außer haus | außer büro | im urlaub |
  bin im urlaub | im mutterschutz | in elternzeit | urlaubsbedingt abwesend | urlaubsbenachrichtigung
el = αυτόματη απάντηση | αυτόματο μήνυμα | αυτόματη ειδοποίηση | εκτός γραφείου | απουσία από το γραφείο |
  απουσία | απουσιάζω | σε άδεια
en = this is an automated | this is an automatic | auto ] | yahoo! auto response | vacation autoreply |
  notice of absence | out of office autoreply | annual leave | maternity leave | parental leave | ooo |
  we have received your | we received your | your request has been received | request received | automatic reply |
  automatic response | automatic out of office | automated reply | automated response | automated message |
  automatic message | auto reply | autoreply | auto response | autoresponse | auto responder | autoresponder |
  auto : | out of office | out of the office | out of my office | i am out of | i'm out of | i am currently out of |
  i'm currently out of | i am on leave | i'm on leave | i am on vacation | i'm on vacation | i am on holiday |
  i'm on holiday | i am away | i'm away | i am currently away | currently out of | ooo : | ooo re | ooo until |
  ooto | vacation reply | vacation response | vacation message | vacation notice | vacation auto | on vacation |
  on annual leave | on holiday | on leave | away | on maternity leave | on parental leave | away from the office |
  away from office | away from my desk | away from my mail | away from my email | absence notification |
  absence notice | not in the office
eo = aŭtomata respondo
es = respuesta automática | contestación automática | mensaje automático | respuesta automatizada | autorespuesta |
  auto respuesta | fuera de la oficina | fuera de oficina | fuera de mi oficina | ausente | ausencia | vacaciones |
  aviso de ausencia | estoy fuera de | estoy de vacaciones | de vacaciones | en vacaciones | me encuentro fuera |
  me encuentro de vacaciones | hemos recibido su | no estoy en la oficina
et = automaatvastus | automaatne vastus | kontorist väljas | kontorist eemal | väljas kontorist | puhkusel |
  olen puhkusel | eemal
eu = erantzun automatikoa | bulegotik kanpo | bulegotik kanpo nago
fa = پاسخ خودکار | پاسخ اتوماتیک | خارج از دفتر | خارج از محل کار
fi = automaattinen vastaus | automaattivastaus | automaattinen poissaoloviesti | poissa | poissaolo |
  poissaoloilmoitus | poissaoloviesti | en ole paikalla | en ole toimistolla | lomalla | olen lomalla
fr = réponse automatique | réponse d'absence | réponse automatisée | auto réponse | autoréponse |
  accusé de réception | nous avons bien reçu votre | message automatique | absence du bureau | absent du bureau |
  absente du bureau | absence | absent | absente | message d'absence | notification d'absence | avis d'absence |
  je suis absent | je suis absente | je suis actuellement absent | je suis actuellement absente | congés | congé |
  je suis en congé | je suis en congés | en congé | en congés | en vacances | je suis en vacances |
  actuellement absent | hors du bureau | hors bureau | en congé maternité | en déplacement
ga = freagra uathoibríoch | as oifig
gl = resposta automática | fóra da oficina
gu = સ્વચાલિત જવાબ
he = תשובה אוטומטית | מענה אוטומטי | הודעה אוטומטית | תגובה אוטומטית | מחוץ למשרד | לא במשרד | אני מחוץ למשרד |
  בחופשה | אני בחופשה | היעדרות
hi = स्वचालित उत्तर | स्वतः उत्तर | स्वत: उत्तर | स्वचालित प्रतिक्रिया | स्वचालित जवाब | ऑटो रिप्लाई |
  कार्यालय से बाहर | कार्यालय से बाहर हूँ
hr = automatski odgovor | automatska poruka | automatski odziv | izvan ureda | odsutan | odsutna | nisam u uredu |
  odsutnost | na godišnjem odmoru
hu = automatikus válasz | automatikus üzenet | automata válasz | automatikus távolléti | házon kívül |
  irodán kívül | távollét | távolléti | távol vagyok | szabadságon | szabadság | nem vagyok az irodában |
  szabadságon vagyok
hy = ավտոմատ պատասխան | ինքնաշխատ պատասխան | գրասենյակից դուրս
id = balasan otomatis | jawaban otomatis | respons otomatis | pesan otomatis | di luar kantor | tidak di kantor |
  sedang cuti
is = sjálfvirkt svar | ekki á skrifstofunni | ekki við | fjarverandi | er í fríi | fjarvera
it = risposta automatica | risposta automatizzata | messaggio automatico | autorisposta | fuori sede |
  fuori ufficio | fuori dall'ufficio | assente | assenza | assenza dall'ufficio | sono assente | sono fuori |
  non sono in ufficio | in ferie | ferie | sono in ferie | notifica di assenza
ja = 自動応答 | 自動返信 | 自動送信 | 自動回答 | 不在 | 不在通知 | 不在のお知らせ | 不在です | 不在にして |
  不在連絡 | 外出中 | 休暇中 | オフィス不在 | 只今不在 | 現在不在 |
  休暇のお知らせ | 出張中
ka = ავტომატური პასუხი | ავტომატური შეტყობინება | ოფისს გარეთ
kk = автоматты жауап | автоматты түрде жауап | кеңседен тыс
km = ឆ្លើយតបស្វ័យប្រវត្តិ | ការឆ្លើយតបស្វ័យប្រវត្តិ
kn = ಸ್ವಯಂಚಾಲಿತ ಪ್ರತ್ಯುತ್ತರ
ko = 자동 회신 | 자동회신 | 자동 응답 | 자동응답 | 자동 답장 | 자동답장 | 부재중 | 부재 중 | 부재 알림 | 휴가 중 |
  휴가중 | 출장 중
lb = automatesch äntwert | net am büro
lo = ຕອບກັບອັດຕະໂນມັດ | ການຕອບກັບອັດຕະໂນມັດ
lt = automatinis atsakymas | automatinis atsakas | automatinis pranešimas | ne biure | nesu biure |
  ne darbo vietoje | atostogauju | atostogose | esu atostogose | nebūsiu biure | išvykęs
lv = automātiskā atbilde | automātiska atbilde | automātiskais ziņojums | automātisks ziņojums | ārpus biroja |
  neesmu birojā | prombūtne | prombūtnē | atvaļinājumā | esmu atvaļinājumā
mk = автоматски одговор | надвор од канцеларија | отсутен
ml = സ്വയമേവയുള്ള മറുപടി | ഓട്ടോമാറ്റിക് മറുപടി
mn = автомат хариу | автомат хариулт
mr = स्वयंचलित उत्तर | स्वयंचलित प्रत्युत्तर
ms = balasan automatik | jawapan automatik | di luar pejabat | luar pejabat | sedang bercuti
mt = tweġiba awtomatika | risposta awtomatika | barra mill-uffiċċju
my = အလိုအလျောက် ပြန်ကြားချက် | အလိုအလျောက်ပြန်စာ
nb = automatisk svar | autosvar | auto svar | fraværsmelding | fravær | fraværende | ikke på kontoret |
  ikke til stede | ute av kontoret | utenfor kontoret | borte fra kontoret | på ferie
nl = automatisch antwoord | automatische reactie | automatisch bericht | automatische beantwoording |
  automatisch beantwoord | auto antwoord | afwezigheid | afwezigheidsbericht | afwezigheidsmelding |
  afwezigheidsassistent | afwezig | niet aanwezig | niet op kantoor | buiten kantoor | ik ben afwezig |
  ik ben niet aanwezig | met vakantie | op vakantie | vakantie | ik ben op vakantie | ik ben met vakantie
nn = automatisk svar | fråvær | fråværsmelding | ikkje på kontoret | ikkje til stades
pa = ਸਵੈਚਲਿਤ ਜਵਾਬ
pl = odpowiedź automatyczna | automatyczna odpowiedź | autoodpowiedź | wiadomość automatyczna |
  automatyczna wiadomość | autoresponder | poza biurem | nieobecność | nieobecny | nieobecna | jestem poza biurem |
  nieobecność w biurze | na urlopie | jestem na urlopie | urlop
pt = resposta automática | resposta automatizada | mensagem automática | resposta de ausência |
  fora do escritório | fora de escritório | ausência | ausente | férias | ausência temporária | aviso de ausência |
  estou ausente | estou fora | estou de férias | de férias | em férias
ro = răspuns automat | mesaj automat | în afara biroului | absent din birou | absență | absent de la birou |
  nu sunt la birou | în concediu | concediu | sunt în concediu | plecat din birou
ru = автоматический ответ | автоматическое сообщение | автоматическое уведомление | автоматически ответ |
  автоответ | автоответчик | вне офиса | нет на месте | нет на рабочем месте | отпуск | отсутствие | отсутствую |
  уведомление об отсутствии | меня нет в офисе | меня нет на месте | нахожусь в отпуске | я в отпуске | в отпуске |
  я вне офиса | отсутствие на рабочем месте | в командировке
sk = automatická odpoveď | automatická správa | mimo kancelárie | nie som v kancelárii | neprítomnosť |
  neprítomný | neprítomná | oznámenie o neprítomnosti | dovolenka
sl = samodejni odgovor | samodejni odziv | avtomatski odgovor | avtomatsko sporočilo | samodejno sporočilo |
  odsoten | odsotna | odsotnost | izven pisarne | zunaj pisarne | nisem v pisarni | na dopustu
sq = përgjigje automatike | përgjigjje automatike | jashtë zyrës | jashtë zyre
sr = аутоматски одговор | аутоматска порука | ван канцеларије | одсутан | одсутна | нисам у канцеларији |
  automatski odgovor | automatska poruka | van kancelarije | nisam u kancelariji | na godišnjem odmoru
sv = automatiskt svar | automatsvar | automatiskt meddelande | autosvar | auto svar | frånvaro |
  frånvaromeddelande | frånvarobesked | frånvarande | inte på kontoret | ej på kontoret | är inte på kontoret |
  ute från kontoret | på semester | semester | tjänstledig | föräldraledig
sw = jibu la kiotomatiki | majibu ya kiotomatiki | jibu la moja kwa moja | nje ya ofisi
ta = தானியங்கு பதில் | தானியங்கி பதில்
te = స్వయంచాలక ప్రత్యుత్తరం | ఆటోమేటిక్ ప్రత్యుత్తరం
th = ตอบกลับอัตโนมัติ | การตอบกลับอัตโนมัติ | ข้อความตอบกลับอัตโนมัติ | ข้อความอัตโนมัติ | ไม่อยู่ที่สำนักงาน |
  ไม่อยู่สำนักงาน | ลาพักร้อน
tl = awtomatikong tugon | awtomatikong sagot | wala sa opisina
tr = otomatik yanıt | otomatik cevap | otomatik mesaj | otomatik ileti | ofis dışında | ofis dışındayım |
  ofis dışı | ofiste değilim | işyeri dışında | iş yeri dışında | iş dışında | izindeyim | izinde |
  yıllık izindeyim | yıllık izin | tatildeyim
uk = автоматична відповідь | автоматичне повідомлення | автовідповідь | автоматичний відповідь | поза офісом |
  відсутність | відсутній | відсутня | мене немає в офісі | не в офісі | у відпустці | я у відпустці | в відпустці
ur = خودکار جواب | خودکار جوابی | دفتر سے باہر
uz = avtomatik javob | автоматик жавоб | ofisdan tashqarida
vi = thư trả lời tự động | trả lời tự động | tự động trả lời | phản hồi tự động | vắng mặt |
  không có mặt tại văn phòng | ngoài văn phòng | nghỉ phép | đang nghỉ phép
zh = 自动回复 | 自動回覆 | 自動回復 | 自动答复 | 自動答覆 | 自動回信 | 自动应答 | 自动响应 | 系统自动回复 |
  系統自動回覆 | 外出自动回复 | 外出自動回覆 | 假期自动回复 | 休假自动回复 |
  不在办公室 | 不在辦公室 | 外出 | 外出中 | 外出通知 | 休假中 | 正在休假 | 我正在休假 | 我不在办公室 | 我不在辦公室
system = undeliverable : | undeliverable mail | delivery status notification | mail delivery failed |
  mail delivery failure | undelivered mail returned | returned mail : | failure notice | delivery failure : |
  message not delivered | unzustellbar : | non remis : | no se puede entregar : | non recapitabile : |
  onbestelbaar : | não é possível entregar : | kan ikke leveres : | niedostarczalne : | nedoručitelné : |
  не удалось доставить | 配信不能 | 无法送达 | 未送达
zu = impendulo ezenzakalelayo
"""


def _by_language() -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for line in _PHRASES.strip().splitlines():
        language, sign, phrases = line.rpartition(" = ")
        if sign:
            found[language] = []
        found[next(reversed(found))] += [phrase.strip() for phrase in phrases.split("|") if phrase.strip()]
    return found


PHRASES = _by_language()
"""By language. They match in any case, with or without accents, and with other signs between the words."""

# Notes writes "AUTO: Ann Lee is out of the office (returning 4 May)"; others leave the "AUTO:" out.
_SOMEBODY_IS = """
is out of the office | is out of office | is currently out of the office | is away from the office |
is not in the office | is on vacation | is on leave | is on annual leave | ist nicht im büro | ist abwesend |
ist nicht am arbeitsplatz | ist nicht im haus | ist im urlaub | ist außer haus | est absent | est absente |
est absent(e) | est en congé | est en congés | est en vacances | está ausente | está fuera de la oficina |
está de vacaciones | estará ausente | está fora do escritório | está de férias | è assente | è fuori ufficio |
è fuori sede | è in ferie | non è in ufficio | is afwezig | is niet aanwezig | is niet op kantoor | is op vakantie |
jest nieobecny | jest nieobecna | jest poza biurem | jest na urlopie | är frånvarande | är inte på kontoret |
är på semester | er ikke på kontoret | er ikke til stede | er fraværende | er på ferie | ei ole paikalla |
ei ole toimistossa | on poissa | on lomalla | je mimo kancelář | házon kívül van | нет на месте | нет в офисе |
находится в отпуске | вне офиса
"""
SOMEBODY_IS = [phrase.strip() for phrase in _SOMEBODY_IS.replace("\n", " ").split("|")]

ANSWER_PREFIXES = (
    "re aw sv vs ref rif r antw antwort odp ynt res rv fw fwd wg tr doorst i vl ang atb ats bls cevap vast na blss"
    " ответ отв απ σχετ تعليق رد השב תגובה 回复 回覆 答复 返信 回信 답장 회신"
)
"""Prefixes of answered or forwarded subjects; a colon follows."""

TAG_WORDS = (
    "external ext extern externe externer externes externo externa esterno esterna exterieur externi externy kulso "
    "zewnetrzny zewnetrzna zewnetrzne ekstern eksternt ulkoinen valis isorinis arejs внешнее внешний внешняя "
    "зовнішній външен εξωτερικό harici dış خارجي חיצוני 外部 社外 외부 spam caution warning suspicious unverified bulk "
    "untrusted suspected possible junk phishing marketing "
    "attention achtung attenzione atención let op uwaga pozor figyelem внимание email e mail message sender"
)
"""Tags of mail gateways before a subject, with or without brackets."""

LEFT_BY_THEMSELVES = """
不在 | 外出 | failure notice | on vacation | on leave | on holiday | annual leave | maternity leave | parental leave
| i am away | i'm away | en vacances | en congé | en congés | de vacances | de vacaciones | en vacaciones |
  de férias
| em férias | in ferie | op vakantie | met vakantie | på ferie | på semester
"""
"""Phrases that begin subjects of persons too. They count like single words do: alone, or before a sign or a date."""

UNTIL = "until till bis jusqu hasta fino tot til fram до έως μέχρι kuni asti iki līdz pana re"
"""Words that may follow such a phrase, before a date."""

FROM = "from on since through vom von ab seit du au del desde dal van fra från od do с по από alates nuo"
"""Words that may follow it before a number."""

NOT_BEFORE = (
    "hours space supplies furniture equipment party settings policy policies feature features request question "
    "questions management software rental rentals packages insurance"
)
"""Words that make another thing of a phrase: "Out of office hours"."""
