"""`sendledger`: its commands, how a login works, and what the exit codes mean.

An error is one sentence on standard error. EXIT_CODES says what a program can tell from the end of this one.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from sendledger_client import ApiError, NotReachable, Sendledger, SendledgerError
from sendledger_client.commands import assistants, campaigns, exporting, leads, reading, templates
from sendledger_client.commands.output import console, errors, plain
from sendledger_client.commands.session import NotLoggedIn, checked_url, store

EXIT_CODES = (
    "Exit codes: 0 done · 1 refused or failed · 2 wrong usage · 3 the API key is missing, unknown or may not do this · "
    "4 not found · 5 not possible in the present state · 6 not reachable · 130 interrupted"
)

UsageError: Any = typer.BadParameter.__bases__[0]
"""Of click, which new versions of typer carry within."""

app = typer.Typer(
    name="sendledger",
    help="Runs email campaigns of Sendledger from the command line.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(campaigns.app, name="campaigns")
app.add_typer(leads.app, name="leads")
app.add_typer(templates.app, name="templates")
app.add_typer(exporting.app, name="export")
campaigns.app.command("plan")(reading.plan)
app.command("preview")(templates.preview)
app.command("replies")(reading.replies)
app.command("diagnose")(reading.diagnose)
app.command("audit")(reading.audit)
app.command("confirm")(campaigns.confirm)
app.command("mcp")(assistants.mcp)


@app.command()
def login(
    url: Annotated[str, typer.Option(prompt="URL of the API", help="For example http://localhost:8000")],
    api_key: Annotated[
        str, typer.Option(prompt="API key", hide_input=True, help="Asked for if left out: others may see arguments.")
    ],
) -> None:
    """Check a URL and an API key, and keep them for the next commands."""
    try:
        url = checked_url(url)
    except NotLoggedIn as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    with Sendledger(url, api_key) as api:
        # Any key may do this.
        api.list_campaigns(limit=1)
    console().print(f"The key is good, and kept in {plain(str(store(url, api_key.strip())))}.")


def exit_code(error: SendledgerError) -> int:
    """What a program can tell from the end of this one."""
    if isinstance(error, NotLoggedIn):
        return 3
    if isinstance(error, NotReachable):
        return 6
    if isinstance(error, ApiError):
        known = {401: 3, 403: 3, 404: 4, 409: 5}
        return known.get(error.status, 6 if error.status >= 500 else 1)
    return 1


def main() -> None:
    """Run the command of the arguments; nothing is ever shown as a stack trace."""
    code: int
    try:
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        message, code = error.format_message(), error.exit_code
        if "\n" in message:
            # The help, where a command was expected.
            typer.echo(message, err=True)
            sys.exit(code)
        of = error.ctx.command_path if error.ctx else "sendledger"
        message = f"{message.rstrip('.')}. See {of} --help."
    except typer.Abort:
        message, code = "Nothing was done.", 1
    except SendledgerError as error:
        message, code = str(error), exit_code(error)
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        message, code = "", 1
    except OSError as error:
        message, code = f"{error.filename}: {error.strerror}." if error.filename else f"{error}.", 1
    except Exception as error:
        message, code = f"This is a fault of the command line ({type(error).__name__}: {error}).", 1
    if message:
        errors.print(plain(f"sendledger: {message}"), soft_wrap=True)
    sys.exit(code)
