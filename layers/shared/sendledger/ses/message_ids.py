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
    """The headers of an answer to `parent_id` in the thread that began with `root_id`.

    They are ids of SES, or whole Message-IDs with their angle brackets. A mail program needs the root and the parent
    only: https://www.rfc-editor.org/rfc/rfc5322#section-3.6.4
    """
    root, parent = (each if each.startswith("<") else f"<{each}@{domain}>" for each in (root_id, parent_id))
    return (("In-Reply-To", parent), ("References", " ".join(dict.fromkeys((root, parent)))))
