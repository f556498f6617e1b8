"""The Message-ID of an email, made of the id that SES has given to it. Uses no table.

SES overwrites the header and answers with the part before the @. The part after it is
`email.amazonses.com` in us-east-1 and `<region>.amazonses.com` elsewhere. Mails of SES show this, but AWS does not
document it. So a setting can name another domain.
"""

from __future__ import annotations


def message_id_domain(region: str, override: str | None = None) -> str:
    """What stands after the @."""
    return override or ("email.amazonses.com" if region == "us-east-1" else f"{region}.amazonses.com")


def thread_headers(root_id: str, parent_id: str, domain: str) -> tuple[tuple[str, str], ...]:
    """The headers of an answer to `parent_id` in the thread that began with `root_id`; both are ids of SES.

    A mail program needs the root and the parent only: https://www.rfc-editor.org/rfc/rfc5322#section-3.6.4
    """
    ids = dict.fromkeys((root_id, parent_id))
    references = " ".join(f"<{each}@{domain}>" for each in ids)
    return (("In-Reply-To", f"<{parent_id}@{domain}>"), ("References", references))
