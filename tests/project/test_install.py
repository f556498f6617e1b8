"""The installation that `make` begins with."""

from __future__ import annotations

import fcntl
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "requirements" / "install.py"

AS_IN_A_TERMINAL = """
import runpy, signal, sys
# Whoever starts the tests in the background has them, and all that they start, ignore Ctrl-C or a closed terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

LOCKS_NOTHING = """
import errno, fcntl, runpy, sys
def flock(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

ASKS_WHAT_IS_BLOCKED = """
import runpy, sys
asking = "import signal, sys; sys.exit(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
sys.exit(runpy.run_path(sys.argv[1])["run"](sys.executable, "-c", asking))
"""

ANOTHER_RUNS = "Another installation runs in this project. This one waits until it has ended.\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A copy, which no installation outside of the test holds locked."""
    return Path(shutil.copy(SCRIPT, tmp_path))


@contextmanager
def installation(script: Path, marker: Path) -> Iterator[subprocess.Popen[str]]:
    """A running one of nothing, in a session of its own."""
    lock = marker.parents[1] / "lock.txt"
    lock.write_text("")
    with subprocess.Popen(
        [sys.executable, "-c", AS_IN_A_TERMINAL, script, marker, lock, "a test"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as installing:
        try:
            yield installing
        finally:
            installing.kill()


def read_line(installing: subprocess.Popen[str]) -> str:
    assert installing.stdout is not None
    return installing.stdout.readline()


def assert_signal_ends(installing: subprocess.Popen[str], number: signal.Signals) -> None:
    # As a terminal does: to every process of its group.
    os.killpg(installing.pid, number)
    assert installing.stderr is not None
    assert installing.wait(300) == 1
    assert installing.stderr.read() == "Stopped. The next try starts again.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_an_installation_and_what_it_has_started_in_one_line(
    script: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with installation(script, tmp_path / "environment" / "installed") as installing:
        assert read_line(installing) == f"Installing a test into {tmp_path / 'environment'} (once)\n"
        assert_signal_ends(installing, number)
    left = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])]
    assert left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_an_installation_that_waits_for_another_one(
    script: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with script.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with installation(script, tmp_path / "environment" / "installed") as installing:
            assert read_line(installing) == ANOTHER_RUNS
            assert_signal_ends(installing, number)


def test_what_an_installation_starts_can_be_stopped_without_it() -> None:
    asked = subprocess.run([sys.executable, "-c", ASKS_WHAT_IS_BLOCKED, SCRIPT], check=False)
    assert asked.returncode == 0


@pytest.mark.parametrize("name", ["a$x", "a:b", "a\nb"])
def test_path_that_the_tools_misread_is_one_sentence_at_once(tmp_path: Path, name: str) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    command = [sys.executable, str(SCRIPT), str(tmp_path / name / "environment" / "installed"), str(lock), "a test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Move the project into another folder." in done.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("made_for", "is_kept"), [("{folder}", True), ("", True), ("/elsewhere/.venv", False)])
def test_environment_of_a_folder_that_was_moved_is_made_anew(tmp_path: Path, made_for: str, is_kept: bool) -> None:
    folder = tmp_path / "a b" / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    marker = folder / "installed-to-run"
    marker.write_text(made_for.format(folder=folder.resolve()))
    subprocess.run(["make", "--file", ROOT / "Makefile", "help"], cwd=folder.parent, check=True, capture_output=True)
    assert marker.exists() == is_kept


def test_environment_whose_python_is_gone_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(tmp_path / "gone")
    marker = folder / "installed"
    marker.touch()
    subprocess.run(["make", "--file", ROOT / "Makefile", "help"], cwd=tmp_path, check=True, capture_output=True)
    assert not marker.exists()


def test_environment_is_made_anew_once_its_python_has_another_version(tmp_path: Path) -> None:
    folder = tmp_path / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    marker = folder / "installed"
    marker.touch()
    make = ["make", "--file", str(ROOT / "Makefile"), "help"]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    assert marker.exists()
    (packages,) = folder.glob("lib/python*")
    packages.rename(packages.with_name("python3.10"))
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    assert not marker.exists()


def test_environment_is_found_whatever_cdpath_says(tmp_path: Path) -> None:
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    marker = folder / "installed"
    marker.write_text(str(folder.resolve()))
    environment = os.environ | {"CDPATH": str(tmp_path)}
    subprocess.run(
        ["make", "--file", ROOT / "Makefile", "help"], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    assert marker.exists()


def test_project_is_found_whatever_the_locale_and_its_folder_are_called(tmp_path: Path) -> None:
    project, folder = tmp_path / "proj\u00e9t" / "src", tmp_path / "proj\u00e9t" / ".venv"
    project.mkdir(parents=True)
    (project / "found_by_its_relative_name.py").touch()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "__editable__.project.pth").write_text(f"{project}\n", "utf-8")
    runpy.run_path(str(SCRIPT))["name_projects_from_the_environment"](str(folder))
    subprocess.run(
        [folder / "bin" / "python", "-c", "import found_by_its_relative_name"], env={"LC_ALL": "C"}, check=True
    )


def test_make_starts_no_program_by_the_first_line_of_a_script() -> None:
    """Such a line ends at a blank, or after some hundred letters. Ruff and uv are no scripts."""
    programs = re.findall(r"\$\(BIN\)/(\w+)", (ROOT / "Makefile").read_text())
    assert set(programs) == {"python", "ruff", "uv"}


def test_package_that_cannot_be_installed_is_named(tmp_path: Path) -> None:
    marker, lock = tmp_path / "environment" / "installed", tmp_path / "no-lock.txt"
    command = [sys.executable, str(SCRIPT), str(marker), str(lock), "a test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("a test could not be installed: see above.\n")
    assert "Traceback" not in done.stderr


def test_second_of_two_installations_waits_and_keeps_the_result_of_the_first(script: Path, tmp_path: Path) -> None:
    marker = tmp_path / "environment" / "installed"
    with script.open() as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with installation(script, marker) as second:
            assert read_line(second) == ANOTHER_RUNS
            marker.parent.mkdir()
            marker.touch()
            fcntl.flock(first, fcntl.LOCK_UN)
            assert second.communicate(timeout=300) == ("", "")
            assert second.returncode == 0
    assert list(marker.parent.iterdir()) == [marker]


def test_installation_goes_on_where_nothing_can_be_locked(tmp_path: Path) -> None:
    lock, marker = tmp_path / "lock.txt", tmp_path / "environment" / "installed"
    lock.write_text("")
    marker.parent.mkdir()
    marker.touch()
    command = [sys.executable, "-c", LOCKS_NOTHING, str(SCRIPT), str(marker), str(lock), "a test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_machine_without_semaphores_compiles_with_one_process(tmp_path: Path) -> None:
    without = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none /dev/shm && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*without, "true"], capture_output=True).returncode != 0:
        pytest.skip("This machine allows no mount namespaces.")
    lock, marker = tmp_path / "lock.txt", tmp_path / "environment" / "installed"
    lock.write_text("")
    done = subprocess.run(
        [*without, sys.executable, str(SCRIPT), str(marker), str(lock), "a test"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert marker.exists()


def test_installing_more_keeps_the_packages_for_running(tmp_path: Path) -> None:
    lock, folder = tmp_path / "lock.txt", tmp_path / "environment"
    lock.write_text("")
    for marker in ("installed-to-run", "installed"):
        command = [sys.executable, str(SCRIPT), str(folder / marker), str(lock), "a test"]
        subprocess.run(command, check=True, capture_output=True)
        (folder / "in-use").touch()
    assert (folder / "in-use").exists()
    assert (folder / "installed-to-run").exists()
