"""What may be attached to an email: names, types and sizes that mail providers take. Uses no table."""

from __future__ import annotations

import io
import re
import struct
import unicodedata
import zipfile
from dataclasses import dataclass

from sendledger.core.errors import FieldError, InvalidInput

MOST_BYTES = 10 * 1024 * 1024
"""Of all attachments of a template together. Base64 makes it 14 MB; SES takes 40 MB, and slows down above 10 MB."""

MOST_ATTACHMENTS = 20

_REFUSED = (
    # SES: https://docs.aws.amazon.com/ses/latest/dg/mime-types.html
    "ade adp app asp bas bat cer chm cmd com cpl crt csh der exe fxp gadget hlp hta inf ins isp its js jse ksh lib lnk "
    "mad maf mag mam maq mar mas mat mau mav maw mda mdb mde mdt mdw mdz msc msh msh1 msh2 mshxml msh1xml msh2xml msi "
    "msp mst ops pcd pif plg prf prg reg scf scr sct shb shs sys ps1 ps1xml ps2 ps2xml psc1 psc2 tmp url vb vbe vbs "
    "vps vsmacros vss vst vsw vxd ws wsc wsf wsh xnk "
    # Gmail: https://support.google.com/mail/answer/6590
    "apk appx appxbundle cab diagcab diagcfg diagpkg dll dmg ex ex_ img iso jar jnlp mjs msix msixbundle nsh vhd vhdx "
    "xll "
    # Outlook, beyond those: https://support.microsoft.com/office/434752e1-02d3-4e90-9124-8b81e49a8519
    "appcontent-ms appref-ms aspx bgi cnt grp hpj htc library-ms mcf mdt msu osd pl printerexport psd1 psdm1 pssc py "
    "pyc pyo pyw pyz pyzw settingcontent-ms theme udl vbp webpnp website xbap"
)
REFUSED_TYPES = frozenset(_REFUSED.split())

_TYPES = {
    "avif": "image/avif",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif",
    "htm": "text/html",
    "html": "text/html",
    "ics": "text/calendar",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "odp": "application/vnd.oasis.opendocument.presentation",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "odt": "application/vnd.oasis.opendocument.text",
    "pdf": "application/pdf",
    "png": "image/png",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "svg": "image/svg+xml",
    "txt": "text/plain",
    "vcf": "text/vcard",
    "webp": "image/webp",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "zip": "application/zip",
}
_ANY_TYPE = "application/octet-stream"
_REFUSED_MEDIA_TYPES = re.compile(
    # A message within the message, or parts of it, would be read as such.
    r"multipart/.*|message/.*"
    r"|(application|text)/(x-)?(java|ecma)script|application/(hta|java-archive|vnd\.android\.package-archive)"
    r"|application/x-(msdownload|msdos-program|dosexec|executable|bat|csh|sh|msi|java-archive)|text/x-(sh|python)"
)
_PACKED = ("gz", "bz2", "xz", "z", "zst")
_NOT_IN_NAMES = '/\\:*?"<>|'
_TYPE = re.compile(r"[A-Za-z0-9_-]{1,20}")


@dataclass(frozen=True)
class CheckedFile:
    """A file that was checked, to be attached to a template."""

    file_name: str
    content_type: str
    content_id: str | None
    content: bytes


def checked_file(
    file_name: str, content_type: str | None, content_id: str | None, content: bytes, source: str
) -> CheckedFile:
    """The file, with its media type; `source` is the field that its content has come from.

    Raises:
        InvalidInput: with an error for each field that a mail provider would not take.
    """
    name = unicodedata.normalize("NFC", file_name)
    errors = [FieldError("file_name", problem)] if (problem := _problem_of_name(name)) else []
    media_type = (content_type or _TYPES.get(_type_of(name), _ANY_TYPE)).lower()
    if _REFUSED_MEDIA_TYPES.fullmatch(media_type):
        errors.append(FieldError("content_type", f"is {media_type}, which mail providers refuse"))
    if content_id is not None and not media_type.startswith("image/"):
        message = f"is for pictures that the HTML shows, and the content type is {media_type}; leave it out"
        errors.append(FieldError("content_id", message))
    if problem := _problem_of_content(content):
        errors.append(FieldError(source, problem))
    if errors:
        raise InvalidInput("The file cannot be attached.", errors)
    return CheckedFile(name, media_type, content_id, content)


def _problem_of_name(name: str) -> str | None:
    if len(name.encode()) > 255:
        return "must have at most 255 bytes in UTF-8"
    for character in name:
        # Control characters, those that turn the direction of writing, and what belongs to paths and headers.
        if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") or character in _NOT_IN_NAMES:
            return f"must not contain the character U+{ord(character):04X}"
    stem, _, type_ = name.rpartition(".")
    if not stem or stem[0] in ". " or not _TYPE.fullmatch(type_):
        return "must be a name and a type, such as brochure.pdf"
    if (type_ := _type_of(name)) in REFUSED_TYPES:
        return f"is of the type .{type_}, which mail providers refuse"
    return None


def _type_of(name: str) -> str:
    """The part after the last dot, or before that of a compressed file."""
    parts = [part.strip() for part in name.lower().split(".")]
    if len(parts) > 2 and parts[-1] in _PACKED and parts[-2] in REFUSED_TYPES:
        return parts[-2]
    return parts[-1]


def _problem_of_content(content: bytes) -> str | None:
    if not content:
        return "is empty"
    if len(content) > MOST_BYTES:
        return f"has {len(content):,} bytes; the attachments of a template may have {MOST_BYTES:,} in total"
    if content[:4] == b"\x7fELF" or _is_windows_program(content):
        return "is a program, which mail providers refuse"
    if content[:2] == b"PK":
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
            return None
        if refused := next((name for name in names if _type_of(name) in REFUSED_TYPES), None):
            return f"is an archive with a file of the type .{_type_of(refused)}, which mail providers refuse"
    return None


def _is_windows_program(content: bytes) -> bool:
    if content[:2] != b"MZ" or len(content) < 64:
        return False
    (offset,) = struct.unpack_from("<I", content, 60)
    return content[offset : offset + 4] == b"PE\0\0"
