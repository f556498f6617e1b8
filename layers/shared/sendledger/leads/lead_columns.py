"""Which column of a file is which field of a lead: a header in, the place of every field out. No database.

Names are compared without regard to case, blanks, underscores and hyphens. The names are those of exports of HubSpot,
Apollo, LinkedIn, Mailchimp and Amazon Pinpoint; what is not among them is kept as a custom field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sendledger.files.read_csv import UnreadableFile

MAX_NAME = 255
"""Characters in the name of a column."""

COLUMN_NAMES: dict[str, str] = {
    "email": "email emailaddress mail mailaddress workemail businessemail companyemail primaryemail contactemail"
    " personemail leademail emailwork emailprimary emailid",
    "company_name": "companyname company organizationname organization organisationname organisation accountname"
    " account currentcompany employer businessname business associatedcompany primaryassociatedcompany"
    " companynameforemails",
    "contact_name": "contactname fullname name contact personname leadname displayname",
    "first_name": "firstname fname givenname forename first contactfirstname personfirstname",
    "last_name": "lastname lname surname familyname last contactlastname personlastname",
    "job_title": "jobtitle title position jobposition currentposition jobrole role",
    "industry": "industry companyindustry sector",
    "business_type": "businesstype",
    "city": "city town personcity contactcity companycity",
    "country": "country countryregion countryname personcountry contactcountry companycountry",
    "address": "address streetaddress street fulladdress mailingaddress companyaddress",
    "website": "website websiteurl companywebsite companyurl companydomain companydomainname domain homepage url",
    "phone": "phone phonenumber telephone telephonenumber tel workphone workdirectphone directphone mobilephone"
    " mobilephonenumber mobile cellphone cell corporatephone companyphone otherphone homephone",
    "linkedin_url": "linkedinurl linkedin personlinkedinurl linkedinprofile linkedinprofileurl contactlinkedinurl"
    " linkedinbio profileurl",
    "company_size": "companysize employees numberofemployees noofemployees numemployees employeecount"
    " companyheadcount headcount",
    "notes": "notes note comments",
    "tags": "tags tag labels",
}
"""Field of a lead → the names of its column, the best first. Several may be present; the first with a value counts."""

REJECT_COLUMNS = ("rejected_row", "rejected_field", "rejected_code", "rejected_message")
"""What the file of rejects tells of each row, before the row itself. Passed over when it is corrected and imported."""

_FIELD_AND_RANK = {
    name: (field, rank) for field, names in COLUMN_NAMES.items() for rank, name in enumerate(names.split())
}
_OPT_OUTS = frozenset(
    (
        "optout",  # Pinpoint
        "unsubscribedfromallemail",  # HubSpot
        *("unsubtime", "cleantime"),  # Mailchimp's files of unsubscribed and of bounced contacts
        *("emailoptout", "hasoptedoutofemail"),  # Salesforce
        *("optedout", "unsubscribed", "unsub", "donotemail", "donotcontact"),
    )
)
# Pinpoint's names are paths: User.UserAttributes.FirstName, Attributes.Company, Location.City.
# https://docs.aws.amazon.com/pinpoint/latest/userguide/segments-importing.html
_PATH = re.compile(r"(?:user\.userattributes|attributes|location|demographic)\.", re.IGNORECASE)
_PATH_RANK = 100


@dataclass(frozen=True)
class LeadColumns:
    """Where to find what in a record."""

    fields: dict[str, tuple[int, ...]]
    """Field of a lead → its columns, the best first."""
    names: tuple[str, ...]
    """The names of all columns, unique; under these the values of no field become custom fields."""
    custom: tuple[int, ...]
    """The columns that are no field of a lead."""
    opt_outs: tuple[int, ...]
    """The columns that say whether somebody opted out; they are custom fields too."""


def has_address(header: list[str]) -> bool:
    """Whether these are the names of columns with an address among them."""
    return "email" in (field for field, _ in _recognise(header) if field)


def read_header(header: list[str]) -> LeadColumns:
    """Recognise the columns of a file that `has_address`.

    Raises:
        UnreadableFile: a name is too long, or two columns are the same field under the same name.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    custom: list[int] = []
    names: list[str] = []
    for index, (field, rank) in enumerate(_recognise(header)):
        name = header[index] or f"column {index + 1}"
        if len(name) > MAX_NAME or not name.isprintable():
            raise UnreadableFile(f"the name of column {index + 1} is not up to {MAX_NAME} printable characters.")
        if not field:
            if name not in REJECT_COLUMNS:
                custom.append(index)
        elif rank in (other for other, _ in found.setdefault(field, [])):
            raise UnreadableFile(f"two columns are named {name}.")
        else:
            found[field].append((rank, index))
        names.append(_unique(name, names))
    plain = [_plain(name) for name in header]
    return LeadColumns(
        fields={field: tuple(index for _, index in sorted(places)) for field, places in found.items()},
        names=tuple(names),
        custom=tuple(custom),
        opt_outs=tuple(index for index, name in enumerate(plain) if name in _OPT_OUTS),
    )


def _recognise(header: list[str]) -> list[tuple[str, int]]:
    """The field and the rank of its name for each column; an empty field for what is not known."""
    plain = [_plain(name) for name in header]
    recognised = []
    for name, written in zip(plain, header, strict=True):
        path = _PATH.match(written.strip())
        field, rank = _FIELD_AND_RANK.get(_plain(written.strip()[path.end() :]) if path else name, ("", 0))
        if name == "address" and "channeltype" in plain:
            field, rank = "email", -1  # Pinpoint: the address on the channel
        elif name == "url" and "connectedon" in plain:
            field, rank = "linkedin_url", _PATH_RANK - 1  # LinkedIn's Connections.csv
        recognised.append((field, rank + _PATH_RANK if path else rank))
    return recognised


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _unique(name: str, taken: list[str]) -> str:
    """Mailchimp writes UNSUB_REASON twice."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name} ({number})"
    return unique
