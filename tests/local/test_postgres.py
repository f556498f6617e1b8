"""The PostgreSQL of the local stack and the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from local import postgres
from local.postgres import Postgres, PostgresError
from testbed.databases import plain_engine
from testbed.invariants import wait_for

ROOT = Path(__file__).parents[2]
# The wheel has those of 16 too.
OTHER_PROGRAMS = postgres._embedded_programs().parents[1] / "pginstall" / "bin"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder below one that only its owner may enter, under a name with all that a shell takes for its own."""
    line_break = "\n" if postgres._WORKING_FOLDER.exists() else ""  # refused elsewhere
    with tempfile.TemporaryDirectory(prefix=f'sl o\'neill, "$x"{line_break}%41 é ') as parent:
        yield Path(parent) / "postgres data"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder)
    try:
        yield server
    finally:
        server.stop()


def ask(server: Postgres, question: str) -> str:
    with plain_engine(server.url()).connect() as connection:
        return str(connection.scalar(sa.text(question)))


def modes(folder: Path) -> list[int]:
    return [parent.stat().st_mode for parent in folder.parents]


def test_server_runs_on_a_folder_of_any_name_and_opens_no_folder_above_it(folder: Path) -> None:
    before = modes(folder)
    with running(folder) as server:
        assert ask(server, "SELECT lower('É')") == "é"
        assert modes(folder) == before
        socket = Path(server.url().rpartition("=")[2].replace("%2F", "/"))
        assert socket.is_socket()
    assert not socket.parent.exists()
    assert not (folder / "postmaster.pid").exists()


def test_locale_of_the_machine_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_CTYPE", "UTF-8")  # what macOS sends along, and Linux does not know
    monkeypatch.setenv("LANG", "xx_YY.UTF-8")
    monkeypatch.setenv("PGPORT", "1")
    with running(folder) as server:
        assert (
            ask(server, "SELECT string_agg(word, '' ORDER BY word) FROM (VALUES ('b'), ('A'), ('a')) x (word)") == "Aab"
        )


def test_server_of_an_ordinary_user_is_not_told_the_path_either(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not postgres._WORKING_FOLDER.exists():
        pytest.skip("Only Linux has a name for the working folder.")
    with running(folder) as server:
        monkeypatch.setattr(server, "_user", {})
        how = server._program("postgres", folder)
    assert (str(folder) in how["args"], how["cwd"]) == (False, folder)


def test_line_break_in_a_name_is_refused_where_the_server_has_to_be_told_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_WORKING_FOLDER", Path("/nowhere"))
    with pytest.raises(PostgresError, match="has a line break; choose another folder"):
        Postgres(tmp_path / "a\nb")


def test_data_outlive_the_server(folder: Path) -> None:
    with running(folder) as server, plain_engine(server.url()).begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept AS SELECT 7 AS number"))
    with running(folder) as server:
        assert ask(server, "SELECT number FROM kept") == "7"


def test_second_server_on_a_folder_is_refused(folder: Path) -> None:
    with (
        running(folder),
        pytest.raises(PostgresError, match=r"(?s)Another process uses .*postgres data; stop it first"),
    ):
        Postgres(folder)


def start_and_die(folder: Path, *with_it: str) -> tuple[int, Path]:
    """A server whose process was killed with kill -9, and its watcher if that is named; its number and its folder."""
    script = (
        "import os, signal, sys; from pathlib import Path; from local.postgres import Postgres\n"
        "folder = Path(sys.argv[1])\n"
        "server = Postgres(folder, folder if 'temporary' in sys.argv else None)\n"
        "if 'watcher' in sys.argv: server._watcher.kill()\n"
        "print(server.process.pid, server._runtime, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, str(folder), *with_it]
    killed = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    assert killed.returncode == -signal.SIGKILL
    number, socket_folder = killed.stdout.split()
    return int(number), Path(socket_folder)


def has_ended(number: int) -> bool:
    return not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


def test_server_of_a_killed_process_ends_by_itself_and_leaves_nothing_behind(folder: Path) -> None:
    server, socket_folder = start_and_die(folder)
    wait_for(lambda: has_ended(server) and not socket_folder.exists(), "the end of the server")
    assert not (folder / "postmaster.pid").exists()


def test_temporary_folder_of_a_killed_process_is_removed_with_its_server(folder: Path) -> None:
    server, socket_folder = start_and_die(folder, "temporary")
    wait_for(lambda: not socket_folder.exists() and not folder.exists(), "the end of the folders")
    assert has_ended(server)


def test_server_that_is_stopped_leaves_no_watcher(folder: Path) -> None:
    with running(folder) as server:
        watcher = server._watcher
        assert watcher is not None
        assert watcher.poll() is None
    assert watcher.poll() is not None


def test_server_of_a_killed_process_is_stopped_by_the_next_one(folder: Path) -> None:
    leftover, _ = start_and_die(folder, "watcher")
    socket_folder = Path((folder / "postmaster.pid").read_text().split("\n")[4])
    assert socket_folder.exists()
    with running(folder) as server:
        assert ask(server, "SELECT 1") == "1"
        assert has_ended(leftover)
        assert not socket_folder.exists()


def test_start_right_after_everything_was_killed_waits_for_recovery(folder: Path) -> None:
    with running(folder) as server:
        for round_ in range(5):
            with plain_engine(server.url()).begin() as connection:
                connection.execute(sa.text(f"CREATE TABLE round_{round_} AS SELECT generate_series(1, 50000)"))
            children = psutil.Process(server.process.pid).children(recursive=True)
            for process in [psutil.Process(server.process.pid), *children]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            server.process.wait()
            server.start()
            assert ask(server, f"SELECT count(*) FROM round_{round_}") == "50000"


def test_process_that_has_got_the_number_of_a_killed_server_does_no_harm(folder: Path) -> None:
    with running(folder):
        pass
    number = os.getpid()
    (folder / "postmaster.pid").write_text(f"{number}\n{folder}\n1\n5432\n/tmp/other\n\n1 1\nready\n")
    with running(folder) as server:
        assert ask(server, "SELECT 1") == "1"


def test_server_that_dies_is_restarted_with_a_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "RETRY_SECONDS", 0.01)
    said: list[str] = []
    with running(folder) as server:
        server.keep_running(said.append)
        for _ in range(2):
            server.process.kill()
            wait_for(lambda: said[-1:] == ["PostgreSQL runs again."], "a new start")
            said.pop()
            assert ask(server, "SELECT 1") == "1"
    assert said[0].startswith("PostgreSQL has ended (exit code -9; see ")


def test_server_that_dies_as_soon_as_it_runs_is_not_started_again_at_once(folder: Path) -> None:
    said: list[str] = []
    with running(folder) as server:
        server.keep_running(said.append)
        server.process.kill()
        wait_for(lambda: said, "a message")
        assert said[0].endswith(f"Next try in {postgres.RETRY_SECONDS:g} s.")
        assert server.process.returncode is not None
    assert len(said) == 1


def test_server_is_started_again_though_its_log_was_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "RETRY_SECONDS", 0.01)
    said: list[str] = []
    with running(folder) as server:
        server.keep_running(said.append)
        server._log.unlink()
        server.process.kill()
        wait_for(lambda: said[-1:] == ["PostgreSQL runs again."], "a new start")
        assert ask(server, "SELECT 1") == "1"


def test_stop_in_the_middle_of_a_new_start_is_not_called_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "RETRY_SECONDS", 0.01)
    said: list[str] = []
    with running(folder) as server:
        never_ready = threading.Event()

        def becomes_ready(deadline: float) -> bool:
            never_ready.set()
            return not server._stopping.wait(30)

        monkeypatch.setattr(server, "_becomes_ready", becomes_ready)
        server.keep_running(said.append)
        server.process.kill()
        assert never_ready.wait(300)
        # What `stop` says first; it then waits for the start to give up.
        server.stop()
        wait_for(lambda: all(thread.name != "postgres" for thread in threading.enumerate()), "the end of its thread")
    assert len(said) == 1


def test_folders_that_differ_in_what_follows_a_dot_are_two(folder: Path) -> None:
    one, two = folder.with_name("data.1"), folder.with_name("data.2")
    with running(one) as first, running(two) as second:
        assert (ask(first, "SELECT 1"), ask(second, "SELECT 2")) == ("1", "2")
        assert first._log != second._log


def test_server_that_is_stopped_is_not_started_again(folder: Path) -> None:
    said: list[str] = []
    with running(folder) as server:
        server.keep_running(said.append)
        server.stop()
        wait_for(lambda: all(thread.name != "postgres" for thread in threading.enumerate()), "the end of its thread")
    assert said == []
    assert server.process.returncode == 0


def test_incomplete_folder_is_created_again(folder: Path) -> None:
    half_made = folder.with_name(f"{folder.name}.new")
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with running(folder) as server:
        assert ask(server, "SELECT 1") == "1"
    assert not half_made.exists()


def test_a_server_that_does_not_start_is_an_error_that_says_why_and_names_its_log(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(folder):
        pass
    (folder / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PostgresError, match="contains errors") as error:
        Postgres(folder)
    assert str(folder.with_name(f"{folder.name}.log")) in str(error.value)
    assert "no_such_setting" in folder.with_name(f"{folder.name}.log").read_text()
    assert capfd.readouterr() == ("", "")


def test_programs_of_another_version_are_run_where_their_folder_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(OTHER_PROGRAMS))
    with running(folder) as server:
        assert ask(server, "SHOW server_version").startswith("16.")


def test_programs_that_their_user_cannot_read_are_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("Only for root is there another user.")
    private, package = folder.parent / "site-packages", OTHER_PROGRAMS.parents[1]
    private.mkdir(mode=0o700)
    subprocess.run(["cp", "-r", package, package.with_name(f"{package.name}.libs"), private], check=True)
    monkeypatch.setenv("POSTGRES_BIN", str(private / package.name / "pginstall" / "bin"))
    with running(folder) as server:
        assert ask(server, "SHOW server_version").startswith("16.")
        assert private.stat().st_mode & 0o777 == 0o700


def test_programs_are_run_from_a_path_that_a_shell_would_misread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = OTHER_PROGRAMS.parents[1]
    with tempfile.TemporaryDirectory(prefix='sl "$HOME" `b` \\ c') as odd:
        Path(odd).chmod(0o755)  # for root the server is another user
        subprocess.run(["cp", "-r", package, package.with_name(f"{package.name}.libs"), odd], check=True)
        monkeypatch.setenv("POSTGRES_BIN", str(Path(odd) / package.name / "pginstall" / "bin"))
        with running(folder) as server:
            assert ask(server, "SHOW server_version").startswith("16.")


def test_data_of_another_version_is_an_error_that_names_both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRES_BIN", raising=False)
    with running(folder):
        pass
    monkeypatch.setenv("POSTGRES_BIN", str(OTHER_PROGRAMS))
    with pytest.raises(PostgresError, match=r"are of PostgreSQL \d+, and these programs are version 16"):
        Postgres(folder)


def test_folder_without_the_programs_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BIN", "/nowhere/bin")
    with pytest.raises(PostgresError, match=r"'/nowhere/bin/postgres'"):
        Postgres(folder)
