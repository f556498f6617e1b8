"""Which API the commands talk to: SENDLEDGER_URL and SENDLEDGER_API_KEY, or else what `sendledger login` has stored."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import typer

from sendledger_client import Sendledger, SendledgerError


class NotLoggedIn(SendledgerError):
    """It is not known where the API is, or which key to use."""


def config_file() -> Path:
    """In the user's folder for settings."""
    return Path(typer.get_app_dir("sendledger")) / "login.json"


def store(url: str, api_key: str) -> Path:
    """Keep them for the next commands, readable by this user only."""
    file = config_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Created with its mode: never readable by others, not for a moment, and never half written.
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        json.dump({"url": url, "api_key": api_key}, opened)
    new.rename(file)
    return file


def checked_url(url: str) -> str:
    """The URL of an API, without the /v1 of the documentation.

    Raises:
        NotLoggedIn: the key would go over the network unencrypted, or this is no URL.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        parts = urlsplit("")
    on_this_machine = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and on_this_machine)):
        raise NotLoggedIn("The URL of the API must begin with https:// (or http://localhost on this machine).")
    return url.strip().rstrip("/").removesuffix("/v1")


def connect() -> Sendledger:
    """A client for the API that the user has chosen. The kept key goes to the API that it was kept for, and no other.

    Its lists are fresh: commands look up by name what another one may have created a moment ago.

    Raises:
        NotLoggedIn
    """
    url, api_key = os.environ.get("SENDLEDGER_URL"), os.environ.get("SENDLEDGER_API_KEY")
    file = config_file()
    if not (url and api_key) and file.exists():
        try:
            stored = json.loads(file.read_text())
            url = url or stored["url"]
            if not api_key and checked_url(url) == checked_url(stored["url"]):
                api_key = stored["api_key"]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NotLoggedIn(f"{file} is damaged; run `sendledger login` again.") from None
    if not (url and api_key):
        raise NotLoggedIn("Run `sendledger login` for this URL first, or set SENDLEDGER_URL and SENDLEDGER_API_KEY.")
    return Sendledger(checked_url(url), api_key, fresh=True)
