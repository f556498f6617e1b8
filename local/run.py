"""`make run`: the whole of Sendledger on this machine, until Ctrl-C.

PORT (8000)             of the API; the inbox is at the next one, tokens are taken at the one after that
DATA_FOLDER (.data)     what a run keeps for the next one: the database, the inbox, the API key, the logs
DATABASE_URL            a PostgreSQL to use instead of the embedded one
POSTGRES_BIN            a folder with the programs of another PostgreSQL
AWS_ENDPOINT_URL_SESV2  an SES to use instead of the simulator
TICK_SECONDS (60)       between two runs of the sender; 0: it runs only when it is invoked
SENDLEDGER_API_KEY      a fixed API key, instead of one that is made and kept
DEMO=0                  start without the demo
VERBOSE=1               what the functions log goes to the terminal
JWT_ISSUER, JWT_AUDIENCE, JWT_ROLE_CLAIM, JWT_ROLE_PREFIX   the template's parameters of these names
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from local.api_client import ApiClient, ApiError
from local.campaigns_of_emails import CampaignsOfEmails
from local.cloudformation import TemplateError
from local.demo import after_demo, leads_of_demo, load_demo, past_campaigns
from local.event_queue import EventQueue
from local.only_one import only_one
from local.postgres import Postgres, PostgresError
from local.replies_to_inbox import RepliesToInbox
from local.ses_simulator import LedgerInUseError, SesSimulator
from local.ses_simulator import PortTakenError as SimulatorPortTakenError
from local.stack import DUMMY_CREDENTIALS, FunctionError, LocalStack
from local.stop_request import StopRequest
from local.threaded_server import PortTakenError, RequestHandler, ThreadedServer
from local.watch_campaign import watch
from sendledger.access import api_keys
from sendledger.core import database
from sendledger.core.errors import SettingsError
from sendledger.core.settings import DatabaseSettings, TokenSettings
from sendledger.core.vocabulary import CampaignStatus, Role

ROOT = Path(__file__).parent.parent
DEMO_TICK_SECONDS = 5.0
FIRST_TICK_SECONDS = 10.0
"""How long the sender may take to load."""
LATE_AFTER_TEN_YEARS = {"LateAfterMinutes": str(10 * 365 * 24 * 60)}
"""At the simulator the next run continues, however long after. Elsewhere a person decides about late emails."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


_JWT_PARAMETERS = {
    "JWT_ISSUER": "JwtIssuer",
    "JWT_AUDIENCE": "JwtAudience",
    "JWT_ROLE_CLAIM": "JwtRoleClaim",
    "JWT_ROLE_PREFIX": "JwtRolePrefix",
}


class StartError(Exception):
    """The stack cannot run like this; the message says what to change."""


@dataclass(frozen=True)
class Options:
    """What a person can set. Without `tick_seconds` the demo is ticked faster than a deployed stack would be."""

    port: int
    database_url: str | None
    ses_url: str | None
    tick_seconds: float | None
    api_key: str | None
    demo: bool
    verbose: bool
    folder: Path
    jwt_parameters: Mapping[str, str]

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Options:
        try:
            port = int(environ.get("PORT") or 8000)
            tick_seconds = float(environ["TICK_SECONDS"]) if environ.get("TICK_SECONDS") else None
        except ValueError:
            raise StartError("PORT and TICK_SECONDS must be numbers.") from None
        jwt_parameters = _jwt_parameters(environ)
        # The ones after it are the inbox's and, where tokens are taken, theirs.
        highest = 65_533 if jwt_parameters.get("JwtIssuer") else 65_534
        if not 0 < port <= highest or (tick_seconds is not None and not 0 <= tick_seconds < 86_400):
            raise StartError(f"PORT must be 1 to {highest}, TICK_SECONDS 0 to 86400.")
        return cls(
            port=port,
            database_url=environ.get("DATABASE_URL") or None,
            ses_url=environ.get("AWS_ENDPOINT_URL_SESV2") or None,
            tick_seconds=tick_seconds,
            api_key=environ.get("SENDLEDGER_API_KEY") or None,
            demo=environ.get("DEMO") != "0",
            verbose=environ.get("VERBOSE") == "1",
            folder=Path(environ.get("DATA_FOLDER") or ROOT / ".data").absolute(),
            jwt_parameters=jwt_parameters,
        )


class Signals:
    """The first Ctrl-C (or SIGTERM) once the stack runs sets `stopping`; any other one raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.stopping = StopRequest()
        self.running = False
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.running or self.stopping.is_set():
            raise KeyboardInterrupt
        self.stopping.set()


def main() -> int:
    # The path of a folder need not be text.
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    signals = Signals()
    try:
        with contextlib.ExitStack() as resources:
            run(Options.read(os.environ), resources, signals)
    except KeyboardInterrupt:
        print("Stopped.")
    except (PortTakenError, StartError) as error:
        print(error, file=sys.stderr)
        return 2
    except (ApiError, FunctionError, LedgerInUseError, PostgresError, SettingsError, TemplateError) as error:
        print(error, file=sys.stderr)
        return 1
    except sa.exc.DBAPIError as error:
        print(f"The database does not answer as it should: {error.orig}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.strerror}: {error.filename}" if error.filename else error, file=sys.stderr)
        return 1
    return 0


def run(options: Options, resources: contextlib.ExitStack, signals: Signals) -> None:
    """Start everything, show the demo, and come back when it has been stopped; `resources` get what is to be closed."""
    _check_free(options.port)
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    # Two stacks on the same data would stop each other's PostgreSQL.
    taken = StartError(f"Another `make run` uses {_relative(folder)}; stop it first.")
    resources.enter_context(only_one(folder / "lock", taken))
    database_url = options.database_url or _postgres(folder / "postgres", resources)
    ses_url, inbox = options.ses_url, "your SES endpoint has none"
    ses_events = EventQueue()
    simulator = None
    if ses_url is None:
        simulator = _simulator(folder / "inbox.jsonl", options.port + 1, ses_events, resources)
        simulator.inbox.describe = resources.enter_context(contextlib.closing(CampaignsOfEmails(database_url)))
        ses_url = inbox = simulator.url
    log: IO[bytes] = sys.stderr.buffer
    if not options.verbose:
        log = resources.enter_context((folder / "functions.log").open("ab"))
    _check_database(database_url)
    stack = _stack(options, database_url, ses_url, ses_events, log)
    resources.callback(stack.stop)
    if options.database_url is None:
        stack.invoke("MigrateFunction", {"action": "create_roles", "admin_user": "postgres", "admin_password": "-"})
    stack.invoke("MigrateFunction", {})
    if not _is_local(ses_url):
        _refuse_leads_of_demo(options, database_url)
    key = _api_key(options.api_key, folder / "api-key", database_url)
    stack.start()
    signals.running = True
    _say_where_things_are(options, key, stack.token_url, inbox)
    api = ApiClient(stack.url, key)
    if simulator is not None:
        simulator.inbox.reply = RepliesToInbox(api)
    demo = options.demo and _is_local(ses_url)
    if options.demo and not demo:
        print("No demo: its mail is for an SES on this machine, not for a real one.")
    campaign = _campaign_to_watch(api, demo, database_url)
    if campaign is not None:
        if _tick_and_watch(stack, api, campaign, options.tick_seconds, signals.stopping):
            after_demo.say_what_became(api, campaign, inbox, another_database(options))
    elif demo:
        after_demo.say_that_there_is_none(api, inbox, another_database(options))
    if not signals.stopping.is_set():
        tick_seconds = 60 if options.tick_seconds is None else options.tick_seconds
        stack.tick_every(tick_seconds)
        print(f"{_ticks(tick_seconds)} Ctrl-C stops everything.")
    signals.stopping.wait()
    print("Stopping when the functions that run have ended; Ctrl-C again stops at once.")
    stack.finish()


def _stack(options: Options, database_url: str, ses_url: str, ses_events: EventQueue, log: IO[bytes]) -> LocalStack:
    return LocalStack(
        ROOT / "template.yaml",
        database_url=database_url,
        ses_url=ses_url,
        log=log,
        port=options.port,
        token_port=options.port + 2,
        parameters={**options.jwt_parameters, **({} if options.ses_url else LATE_AFTER_TEN_YEARS)},
        variables=os.environ,
        aws=_aws_variables(os.environ) if options.ses_url else None,
        region=_region(os.environ),
        ses_events=ses_events,
        # A database that is given may lack these users.
        separate_users=options.database_url is None,
        fixed_api_key=options.api_key,
        files=options.folder / "files",
    )


def _say_where_things_are(options: Options, key: str, token_url: str | None, inbox: str) -> None:
    tokens = f"  Tokens    {token_url}\n" if token_url else ""
    print(
        f"Sendledger runs on http://localhost:{options.port}\n\n"
        # A browser does not send the part behind the # to a server: only the page sees the key.
        f"  Console   http://localhost:{options.port}/console/sign-in#{key}\n"
        f"  API docs  http://localhost:{options.port}/v1/docs (any user name, the API key as the password)\n"
        f"  API key   {key}\n"
        f"{tokens}"
        f"  Inbox     {inbox}\n"
        f"  Log       {'this terminal' if options.verbose else _relative(options.folder / 'functions.log')}\n"
    )


def _jwt_parameters(environ: Mapping[str, str]) -> dict[str, str]:
    found = {parameter: environ[name] for name, parameter in _JWT_PARAMETERS.items() if name in environ}
    if bool(found.get("JwtIssuer")) != bool(found.get("JwtAudience")):
        raise StartError("JWT_ISSUER and JWT_AUDIENCE go together.")
    # What the API would refuse later, with every request.
    TokenSettings.read({"JWT_ROLE_CLAIM": "roles", **environ})
    return found


def _check_free(port: int) -> None:
    """Before anything is started: a taken port is the most likely reason not to."""
    ThreadedServer(port, RequestHandler).stop()
    # A browser may take localhost for ::1, and would find another program there.
    with contextlib.suppress(OSError), socket.create_connection(("::1", port), timeout=1) as connection:
        # A connection whose own port is this one by chance is connected to itself.
        if connection.getsockname() != connection.getpeername():
            message = f"Port {port} of ::1 is not free, so http://localhost:{port} may be another program's."
            raise PortTakenError(message)


def _postgres(folder: Path, resources: contextlib.ExitStack) -> str:
    server = Postgres(folder)
    resources.callback(server.stop)
    resources.callback(_ignore_signals)
    server.keep_running(print)
    return server.url()


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _check_database(url: str) -> None:
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    try:
        engine.connect().close()
    except (sa.exc.DBAPIError, OSError) as error:
        reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise StartError(f"The database cannot be reached: {reason}") from error
    finally:
        engine.dispose()


def _simulator(ledger: Path, port: int, events: EventQueue, resources: contextlib.ExitStack) -> SesSimulator:
    """A running SES simulator, on the port next to the API's where that is free."""
    try:
        return resources.enter_context(SesSimulator(ledger_path=ledger, port=port, event_sink=events.put))
    except SimulatorPortTakenError:
        return resources.enter_context(SesSimulator(ledger_path=ledger, event_sink=events.put))


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _aws_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's own, with dummies where there are no credentials among them."""
    own = {name: value for name, value in environ.items() if name.startswith("AWS_")}
    sources = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"}
    return own if sources & own.keys() else DUMMY_CREDENTIALS | own


def _region(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _refuse_leads_of_demo(options: Options, database_url: str) -> None:
    """Before anything can send: the database may come from a run with the simulator.

    Whether a campaign has these leads now does not matter: a segment or a list can have them later.
    """
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}))
    with engine.connect() as connection:
        found = leads_of_demo.are_in(connection)
    engine.dispose()
    if found:
        raise StartError(
            "This database has leads of the demo, and mail to them is not for a real SES: it would bounce. "
            f"Nothing was sent. Use another database: {another_database(options)}"
        )


def another_database(options: Options) -> str:
    """How to start with an empty one."""
    if options.database_url is not None:
        return "make run with another DATABASE_URL"
    folders = (Path(f".data-{number}") for number in itertools.count(2))
    unused = next(folder for folder in folders if not folder.exists())
    return f"DATA_FOLDER={unused} make run"


def _api_key(fixed: str | None, file: Path, database_url: str) -> str:
    """The fixed key, else the one that an earlier run made, else a new one; it is made known to the database."""
    known = fixed or (file.read_text().strip() if file.exists() else None)
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}))
    with engine.begin() as connection:
        key = api_keys.create(connection, "make run", Role.ADMIN, key=known).key
    engine.dispose()
    if fixed is None:
        file.touch(mode=0o600)
        file.write_text(f"{key}\n")
    return key


def _campaign_to_watch(api: ApiClient, demo: bool, database_url: str) -> Any | None:
    """The newest campaign that an earlier run left running, else the demo's where the database is empty."""
    for running in api.list("/v1/campaigns", status=CampaignStatus.RUNNING):
        if running["name"] not in past_campaigns.CAMPAIGNS:
            return running
    if not demo or not load_demo.may_load(api):
        return None
    campaign = load_demo.load(api)
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": database_url}))
    past_campaigns.load(api, engine)
    engine.dispose()
    return campaign


def _tick_and_watch(
    stack: LocalStack, api: ApiClient, campaign: Any, tick_seconds: float | None, stopping: StopRequest
) -> bool:
    """Whether the campaign was watched to its end."""
    if stopping.is_set():
        return False  # while the demo was loaded: none of its emails goes out
    tick_seconds = DEMO_TICK_SECONDS if tick_seconds is None else tick_seconds
    stack.tick_every(tick_seconds)
    print(f"{_ticks(tick_seconds)} TICK_SECONDS changes that. Ctrl-C stops everything.\n\n{campaign['name']}")
    try:
        # Each tick sends due emails. If two ticks have sent none, the reason is shown.
        patience = max(2 * tick_seconds, FIRST_TICK_SECONDS) if tick_seconds else math.inf
        watch(api, campaign, sys.stdout, stopping, patience)
    except ApiError as error:
        print(f"The progress cannot be shown: {error}\n")
        return False
    print()
    return not stopping.is_set()


def _ticks(seconds: float) -> str:
    return f"The sender runs every {seconds:g} s." if seconds else "The sender runs only when it is invoked."


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
