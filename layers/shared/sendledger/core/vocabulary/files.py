"""The words of imports and exports."""

from __future__ import annotations

from sendledger.core.vocabulary.words import Word


class LeadBatchStatus(Word):
    """How far an import is."""

    PENDING = "pending", "Waits for its file or for the start of the import."
    CHECKING = "checking", "Rows are being read and counted; none is imported."
    CHECKED = "checked", "All rows are counted and none is imported, until somebody says so."
    IMPORTING = "importing", "Rows are being imported."
    COMPLETED = "completed", "All rows of the file are done."
    FAILED = "failed", "The import could not go on; `failure_reason` says why."
    DELETING = "deleting", "The batch and its leads are being deleted."


class ColumnUse(Word):
    """What a column of a file of leads is."""

    EMAIL = "email", "The address. Of several columns the first valid one counts."
    COMPANY_NAME = "company_name", "The lead's company."
    CONTACT_NAME = "contact_name", "The lead's whole name."
    FIRST_NAME = "first_name", "The lead's first name."
    LAST_NAME = "last_name", "The lead's last name."
    JOB_TITLE = "job_title", "What the lead does in the company."
    INDUSTRY = "industry", "The company's industry."
    BUSINESS_TYPE = "business_type", "The company's type of business."
    CITY = "city", "The lead's or the company's city."
    COUNTRY = "country", "The lead's or the company's country."
    ADDRESS = "address", "The street address."
    WEBSITE = "website", "The company's website."
    PHONE = "phone", "A telephone number."
    LINKEDIN_URL = "linkedin_url", "The lead's page on LinkedIn."
    COMPANY_SIZE = "company_size", "How many people work for the company."
    TIME_ZONE = "time_zone", "The lead's time zone, a name of the IANA database."
    NOTES = "notes", "Notes about the lead."
    TAGS = "tags", "The lead's tags, with commas between them."
    CUSTOM_FIELDS = "custom_fields", "A custom field with the name of the column."
    IGNORED = "ignored", "Nothing: the column is left out."


class RejectCode(Word):
    """Why a row of a file is not imported, or a value of it is left out."""

    INVALID_EMAIL = "invalid_email", "The row has no address that SES could send to."
    MISSING_EMAIL = "missing_email", "The row has no address."
    OPTED_OUT = "opted_out", "The file says that this person must not be mailed. The address is suppressed instead."
    TOO_MANY_FIELDS = "too_many_fields", "The row has more fields than the header."
    BROKEN_QUOTE = "broken_quote", "A quotation mark in a quoted field is not doubled."
    UNCLOSED_QUOTE = "unclosed_quote", "A quotation mark is not closed."
    FIELD_TOO_LONG = "field_too_long", "A field is longer than a file may have."
    TOO_LONG = "too_long", "The value is too long; the lead is imported without it."
    TOO_MANY = "too_many", "The lead has too many tags; it is imported without them."
    CONTROL_CHARACTER = "control_character", "The value contains a control character; the lead is imported without it."
    DAMAGED_TEXT = "damaged_text", "A character of the value was lost; the lead is imported without it."
    UNKNOWN_TIME_ZONE = "unknown_time_zone", "The row has a time zone that the IANA database does not have."


class ExportKind(Word):
    """What an export contains."""

    LEADS = "leads", "Leads with their fields."
    CAMPAIGN_LEDGER = "campaign_ledger", "Each scheduled email of a campaign, and each lead that was left out."


class ExportReader(Word):
    """Which program an export is made for, where that matters."""

    EXCEL = "excel", "Microsoft Excel: the file begins with a byte order mark, which tells Excel that it is UTF-8."


class ExportStatus(Word):
    """How far an export is."""

    PENDING = "pending", "Waits to be written."
    RUNNING = "running", "Rows are being written."
    COMPLETED = "completed", "The file can be downloaded."
    FAILED = "failed", "The export could not go on; `failure_reason` says why."
