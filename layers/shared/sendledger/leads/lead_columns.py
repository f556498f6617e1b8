"""Which column of a file is which field of a lead: a header in, the place of every field out. No database.

Names are compared without regard to case, accents, blanks and punctuation. The names are those of exports of HubSpot,
Apollo, LinkedIn, Mailchimp, Amazon Pinpoint, Google Contacts and Outlook; what is not among them is kept as a custom
field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sendledger.core.vocabulary import ColumnUse
from sendledger.leads.opt_outs import Sign, plain, plain_words, sign_of

MAX_NAME = 255
"""Characters in the name of a column."""

COLUMN_NAMES: dict[str, str] = {
    "email": "email emailaddress mail mailaddress workemail businessemail companyemail primaryemail contactemail"
    " personemail leademail emailwork emailprimary emailid emailaddress1 email1 email1value email1address useremail"
    " emailaddresswork subscriberemail"
    # German, French, Spanish, Italian, Portuguese, Dutch
    " emailadresse mailadresse adressedemessagerie adressemail adresseemail adresseélectronique courriel"
    " direccióndecorreoelectrónico direccióndecorreo correoelectrónico correo direccióndeemail"
    " indirizzopostaelettronica indirizzodipostaelettronica indirizzoemail postaelettronica"
    " endereçodeemail endereçodecorreioeletrônico endereçodecorreioelectrónico correioeletrónico endereçoemail"
    " emailadres mailadres"
    # Polish, Swedish, Norwegian, Finnish, Czech, Hungarian, Romanian, Turkish, Russian, Ukrainian
    " adresemail adrespocztyelektronicznej epostadress epostadresse epost sähköpostiosoite sähköposti"
    " emailováadresa emailcím adresădeemail epostaadresi eposta адресэлпочты адресэлектроннойпочты электроннаяпочта"
    " почта електроннапошта адресаелектронноїпошти пошта"
    # Japanese, Chinese, Korean
    " 電子メールアドレス メールアドレス メール 电子邮件地址 电子邮件 邮箱 電子郵件地址 電子郵件 전자메일주소 이메일"
    # More than one address: the others count where these have none
    " email2 email2value email2address emailaddress2 email2adresse emailadresse2 adressedemessagerie2 email3"
    " email3value email3address emailaddress3 secondaryemail alternateemail otheremail personalemail homeemail"
    " emailhome privateemail",
    "company_name": "companyname company organizationname organization organisationname organisation accountname"
    " account currentcompany employer businessname business associatedcompany primaryassociatedcompany"
    " companynameforemails organization1name companyaccount"
    " firma firmenname unternehmen société entreprise empresa compañía organización organizzazione società azienda"
    " organização companhia bedrijf bedrijfsnaam organisatie företag virksomhed selskap yritys společnost cég companie"
    " şirket организация компания компанія 会社名 会社 公司 单位 單位 회사",
    "contact_name": "contactname fullname name contact personname leadname displayname"
    " vollständigername nomcomplet nombrecompleto nomecompleto volledigenaam kontakt ansprechpartner",
    "first_name": "firstname fname givenname forename first contactfirstname personfirstname"
    " vorname rufname prénom primernombre voornaam imię förnamn fornavn etunimi jméno křestníjméno prenume adı имя ім'я"
    " 名",
    "last_name": "lastname lname surname familyname last contactlastname personlastname"
    " nachname familienname zuname nomdefamille apellido apellidos cognome sobrenome apelido achternaam nazwisko"
    " efternamn efternavn etternavn sukunimi příjmení vezetéknév soyadı soyad фамилия прізвище 姓",
    "job_title": "jobtitle position jobposition currentposition jobrole role title organization1title organizationtitle"
    " berufsbezeichnung berufsbez posten poste fonction puesto cargo posizione mansione qualifica função functie"
    " functietitel stanowisko befattning stilling tehtävänimike funkce beosztás funcție işunvanı unvan должность посада"
    " 役職 职务 職稱 직함 titel titre título titolo",
    "industry": "industry companyindustry sector branche secteur sectordeactividad settore setor branża bransch"
    " отрасль 行业",
    "business_type": "businesstype",
    "city": "city town personcity contactcity companycity businesscity address1city workcity"
    " ort stadt ortgeschäftlich ville villebureau ciudad ciudaddetrabajo città cittàuff cidade"
    " cidadedoendereçocomercial woonplaats stad plaats plaatswerk miasto ort(arbete) by sted kaupunki město oraş şehir"
    " город місто 市区町村 城市",
    "country": "country countryregion countryname personcountry contactcountry companycountry businesscountry"
    " businesscountryregion address1country workcountry"
    " land landregion landregiongeschäftlich pays paysrégion paysrégionbureau país paísoregión paísoregióndeltrabajo"
    " paese paeseareageografica paeseareageograficauff paísregião paísregiãodoendereçocomercial kraj maa země ülke"
    " страна країна 国 国家 國家",
    "address": "address streetaddress street fulladdress mailingaddress companyaddress businessstreet address1formatted"
    " address1street adresse strasse straßegeschäftlich anschrift rue ruebureau dirección calle calledeltrabajo"
    " indirizzo via viauff endereço ruadoendereçocomercial adres adress адрес 住所 地址",
    "website": "website websiteurl companywebsite companyurl companydomain companydomainname domain homepage url"
    " webpage website1value webseite internetseite siteweb pageweb páginaweb sitioweb paginaweb sitoweb páginadaweb"
    " webpagina stronainternetowa webbplats webbsida hjemmeside webside веб-сайт сайт",
    "phone": "phone phonenumber telephone telephonenumber tel workphone workdirectphone directphone businessphone"
    " phone1value mobilephone mobilephonenumber mobile cellphone cell corporatephone companyphone otherphone homephone"
    " phone2value telefon telefongeschäftlich telefonnummer mobiltelefon handy téléphone téléphonebureau telmobile"
    " teléfono teléfonodeltrabajo móvil telefono ufficiotelefono cellulare telefone telefonecomercial celular telemóvel"
    " telefoon telefoonopwerk mobieletelefoon mobiel telefonkomórkowy puhelin телефон мобильныйтелефон 電話 电话 전화",
    "linkedin_url": "linkedinurl linkedin personlinkedinurl linkedinprofile linkedinprofileurl contactlinkedinurl"
    " linkedinbio profileurl",
    "company_size": "companysize employees numberofemployees noofemployees numemployees employeecount"
    " companyheadcount headcount",
    "time_zone": "timezone timezonename tz persontimezone contacttimezone"
    " zeitzone fuseauhoraire zonahoraria husohorario fusoorario fusohorário tijdzone",
    "notes": "notes note comments notizen bemerkungen remarques notas anotações opmerkingen notities"
    " notatki anteckningar noter notater muistiinpanot poznámky заметки примечания メモ 备注",
    "tags": "tags tag labels categories kategorien catégories categorías categorie categorias categorieën"
    " groupmembership",
}
"""Field of a lead → names of its column, the best first. If several are present, the first with a value counts.

The names in other languages are mostly those of the contacts that Outlook exports.
"""

REJECT_COLUMNS = ("rejected_row", "rejected_field", "rejected_code", "rejected_message")
"""The first columns of the file of rejects. They are ignored when the corrected file is imported."""

NOTHING_CHOSEN: Mapping[str, str] = MappingProxyType({})
CUSTOM_FIELDS = "custom_fields"
STATUS = "status"
OWN_COLUMNS = frozenset(
    ("id", "source", "batch_id", "emails_sent", "last_contacted_at", "last_responded_at", "created_at", "updated_at")
) | {"erased_at", "local_time_zone", "time_zone_source"}
"""Columns of an export of leads that a new lead sets itself. They are ignored."""

_FIELD_AND_RANK = {
    plain(name): (field, rank) for field, names in COLUMN_NAMES.items() for rank, name in enumerate(names.split())
}
_FOREIGN_FIRST_NAMES = plain_words("vorname rufname prénom voornaam imię förnamn fornavn etunimi jméno prenume")
_FIRST_OR_FULL_NAMES = plain_words("nombre nome")
"""The first name if there is a column of last names, otherwise the whole name."""
_LAST_OR_FULL_NAMES = plain_words("name nom naam namn navn nimi nume contactname")
"""The last name if there is a column of first names in such a language, otherwise the whole name."""

# Pinpoint's names are paths: User.UserAttributes.FirstName, Attributes.Company, Location.City.
# https://docs.aws.amazon.com/pinpoint/latest/userguide/segments-importing.html
_PATH = re.compile(r"(?:user\.userattributes|attributes|location|demographic)\.", re.IGNORECASE)
_PATH_RANK = 1000
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


@dataclass(frozen=True)
class LeadColumns:
    """Which columns of a file contain which fields."""

    fields: dict[str, tuple[int, ...]]
    """Field of a lead → its columns, the best first."""
    names: tuple[str, ...]
    """The names of all columns, unique; under these the values of no field become custom fields."""
    custom: tuple[int, ...]
    """The columns that are no field of a lead."""
    opt_outs: tuple[tuple[int, Sign], ...]
    """The columns that can say that a person must not be mailed, and how. They are custom fields too."""
    own_status: int | None
    """The column with the status of the lead, in an export of leads from here."""
    tells_status: bool
    """Whether a column may tell the status that the lead has here."""
    own_custom_fields: int | None
    """The column with all custom fields as JSON, in an export of leads from here or from Smartlead."""

    def use_of(self, index: int) -> ColumnUse:
        if index in self.custom or index == self.own_custom_fields:
            return ColumnUse.CUSTOM_FIELDS
        fields = (ColumnUse(field) for field, places in self.fields.items() if index in places)
        return next(fields, ColumnUse.IGNORED)


def has_address(header: list[str], chosen: Mapping[str, str] = NOTHING_CHOSEN) -> bool:
    """Whether these are the names of columns with an address among them."""
    # A line before the header may have a million columns, so this is linear.
    cleaned = [clean_name(name)[:MAX_NAME] for name in header]
    return any(
        chosen.get(name, field) == "email" for name, (field, _) in zip(cleaned, _recognise(cleaned), strict=True)
    )


def is_address_column(name: str) -> bool:
    """Whether a column of this name holds addresses."""
    return _FIELD_AND_RANK.get(plain(name), ("", 0))[0] == "email"


def clean_name(name: str) -> str:
    """The name of a column as it is shown: on one line, without invisible characters."""
    return " ".join((name if name.isprintable() else _INVISIBLE.sub(" ", name)).split())


def read_header(header: list[str], chosen: Mapping[str, str] = NOTHING_CHOSEN) -> LeadColumns:
    """Recognise the columns of a file that `has_address`.

    `chosen` has the `ColumnUse` of some columns, by their names, in place of what is recognised. A column that can say
    that a person must not be mailed does so all the same.

    Of several columns with one name each is kept: the first one with a value is the field, the others are custom
    fields with a number behind their names.
    """
    cleaned = [clean_name(name)[:MAX_NAME] for name in header]
    is_own = {"email", STATUS, CUSTOM_FIELDS} <= set(cleaned) and not _is_of_smartlead(cleaned)
    passed_over = {*REJECT_COLUMNS, CUSTOM_FIELDS, *(OWN_COLUMNS | {STATUS} if is_own else ())}
    found: dict[str, list[tuple[int, int]]] = {}
    custom: list[int] = []
    names: list[str] = []
    for index, (field, rank) in enumerate(_recognise(cleaned)):
        name = cleaned[index] or f"column {index + 1}"
        names.append(_unique(name, names))
        use = chosen.get(names[-1])
        if use is not None and use in COLUMN_NAMES:
            found.setdefault(use, []).append((-1, index))
        elif use == ColumnUse.CUSTOM_FIELDS:
            custom.append(index)
        elif use == ColumnUse.IGNORED:
            pass
        elif field:
            found.setdefault(field, []).append((rank, index))
        elif name not in passed_over:
            custom.append(index)
    signs = tuple((index, sign) for index, name in enumerate(cleaned) if (sign := _sign(name, cleaned)) is not None)
    return LeadColumns(
        fields={field: tuple(index for _, index in sorted(places)) for field, places in found.items()},
        names=tuple(names),
        custom=tuple(custom),
        opt_outs=signs,
        tells_status=is_own or any(sign is Sign.STATUS for _, sign in signs),
        own_status=cleaned.index(STATUS) if is_own else None,
        own_custom_fields=cleaned.index(CUSTOM_FIELDS) if CUSTOM_FIELDS in set(cleaned) - chosen.keys() else None,
    )


def _is_of_smartlead(header: list[str]) -> bool:
    return "campaign_lead_map_id" in header


def _sign(name: str, header: list[str]) -> Sign | None:
    # Elsewhere a category is a branch or a label.
    return Sign.STATUS if name == "category" and _is_of_smartlead(header) else sign_of(name)


def _recognise(header: list[str]) -> list[tuple[str, int]]:
    """The field and the rank of its name for each column; an empty field for what is not known."""
    keys = [plain(name) for name in header]
    known = {field for field, _ in map(_FIELD_AND_RANK.get, keys, [("", 0)] * len(keys))}
    recognised = []
    for key, written in zip(keys, header, strict=True):
        path = _PATH.match(written)
        field, rank = _FIELD_AND_RANK.get(plain(written[path.end() :]) if path else key, ("", 0))
        if key == "address" and "channeltype" in keys:
            field, rank = "email", -1  # Pinpoint: the address on the channel
        elif key == "url" and "connectedon" in keys:
            field, rank = "linkedin_url", _PATH_RANK - 1  # LinkedIn's Connections.csv
        elif key in _FIRST_OR_FULL_NAMES:
            field, rank = "first_name" if "last_name" in known else "contact_name", _PATH_RANK - 1
        elif key in _LAST_OR_FULL_NAMES and (field != "contact_name" or not _FOREIGN_FIRST_NAMES.isdisjoint(keys)):
            is_last = "first_name" in known and "last_name" not in known
            field, rank = "last_name" if is_last else "contact_name", _PATH_RANK - 1
        recognised.append((field, rank + _PATH_RANK if path else rank))
    return recognised


def _unique(name: str, taken: list[str]) -> str:
    """Mailchimp writes UNSUB_REASON twice."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name} ({number})"
    return unique
