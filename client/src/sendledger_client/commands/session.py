"""Which API the commands talk to: SENDLEDGER_URL and SENDLEDGER_API_KEY, or else what `sendledger login` has stored."""

from __future__ import annotations

import json
import os
from pathlib import Path

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


def connect() -> Sendledger:
    """A client for the API that the user has chosen.

    Raises:
        NotLoggedIn
    """
    url, api_key = os.environ.get("SENDLEDGER_URL"), os.environ.get("SENDLEDGER_API_KEY")
    file = config_file()
    if not (url and api_key) and file.exists():
        try:
            stored = json.loads(file.read_text())
            url, api_key = url or stored["url"], api_key or stored["api_key"]
        except (ValueError, KeyError, TypeError):
            raise NotLoggedIn(f"{file} is damaged; run `sendledger login` again.") from None
    if not (url and api_key):
        raise NotLoggedIn("Run `sendledger login` first, or set SENDLEDGER_URL and SENDLEDGER_API_KEY.")
    return Sendledger(url, api_key)
