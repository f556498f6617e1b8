"""The installation that `make` begins with."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_an_installation_and_what_it_has_started_in_one_line(
    tmp_path: Path, number: signal.Signals
) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    with subprocess.Popen(
        [sys.executable, "-c", AS_IN_A_TERMINAL, SCRIPT, tmp_path / "environment" / "installed", lock, "a test"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as installing:
        assert installing.stdout is not None
        assert installing.stderr is not None
        assert installing.stdout.readline() == f"Installing a test into {tmp_path / 'environment'} (once)\n"
        # As a terminal does: to every process of its group.
        os.killpg(installing.pid, number)
        assert installing.wait(300) == 1
        assert installing.stderr.read() == "Stopped. The next try starts again.\n"
    left = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])]
    assert left == []


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


def test_second_of_two_installations_waits_and_keeps_the_result_of_the_first(tmp_path: Path) -> None:
    lock, marker = tmp_path / "lock.txt", tmp_path / "environment" / "installed"
    lock.write_text("")
    command = [sys.executable, str(SCRIPT), str(marker), str(lock), "a test"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(said) == [
        "Another installation runs in this project. This one waits until it has ended.\n",
        f"Installing a test into {marker.parent} (once)\n",
    ]
    assert marker.read_text() == str(marker.parent.resolve())


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
