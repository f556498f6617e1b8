"""Makes a virtual environment: python3 requirements/install.py FOLDER/MARKER LOCK-FILE WHAT-TO-CALL-IT [PROJECT…]

The file MARKER says that the environment is complete, and for which folder: it works in no other. Of two installations
at once the second one waits. What was installed only to run is kept when development is added to it: the same versions,
and a stack may be running from it.

The lock files are complete, so nothing is resolved; every package is a wheel, checked against its hash. They are
compiled at once, by all cores: where PYTHONDONTWRITEBYTECODE is set, each process would do so again. A file for another
Python that a package brings does not compile, which does no harm. Ctrl-C ends it in one line, and so do SIGTERM and a
terminal that is closed. Any Python 3 can read this file, so that one that is too old can say so.
"""

import contextlib
import fcntl
import glob
import multiprocessing
import os
import signal
import subprocess
import sys
import time

NEEDED = (3, 11)
NOT_IN_A_PATH = ("$", ":", "\n")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop(number, frame):
    raise KeyboardInterrupt


def unblock():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def unblock_in_child():
    """One that came before the child had a session of its own ends it; what was started with nohup goes on."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    unblock()


def run(*command):
    """Run a command in a session of its own, which the signals to stop do not reach but through this process."""
    # They wait until it is known which process to end.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    # Setuptools writes the names of folders in the locale's encoding, and C has no é.
    environment = dict(os.environ, LC_ALL="C.UTF-8")
    # The command does not inherit that they are blocked: it may outlive this process, and a person could not end it.
    process = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=unblock_in_child)
    try:
        unblock()
        code = process.wait()
    except KeyboardInterrupt:
        # A terminal that is closed sends more than one.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        # It may have ended just now, for which macOS raises an error.
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return code


def is_newer(marker, lock):
    return os.path.exists(marker) and os.path.getmtime(marker) >= os.path.getmtime(lock)


def name_projects_from_the_environment(folder):
    """Full names would be read in the encoding of the locale that Python starts with, which may be another one."""
    for file in glob.glob(os.path.join(glob.escape(folder), "lib", "python*", "site-packages", "__editable__*.pth")):
        with open(file, encoding="utf-8") as opened:
            project = opened.read().strip()
        if os.path.isdir(project):
            with open(file, "w", encoding="utf-8") as opened:
                site = os.path.dirname(os.path.realpath(file))
                opened.write(os.path.relpath(os.path.realpath(project), site) + "\n")


def processes_to_compile_with():
    """0 stands for one for each core. They need semaphores, which some containers do not have."""
    try:
        multiprocessing.get_context("fork").Lock()
    except (ImportError, OSError):
        return "1"
    return "0"


def wait_for_the_others():
    """Return once no other process installs here, and hold the others off until this one ends."""
    # The file is this one, as the environment's folder may not exist yet. NFS locks only what is open for writing.
    alone = os.open(__file__, os.O_RDWR if os.access(__file__, os.W_OK) else os.O_RDONLY)
    # Where the file system cannot lock, as NFS without its lock service, nothing keeps two apart.
    with contextlib.suppress(OSError):
        if not can_lock(alone):
            print("Another installation runs in this project. This one waits until it has ended.", flush=True)
            # A flock that waits would not notice a signal that came just before it.
            while not can_lock(alone):
                time.sleep(0.2)


def can_lock(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def install(marker, lock, what, *projects):
    folder = os.path.dirname(marker)
    if sys.version_info < NEEDED:
        return (
            "Python {}.{} or newer is needed; this is {}. If this machine has one under another name: "
            "make PYTHON=python3.13 …".format(*NEEDED, sys.version.split()[0])
        )
    path = os.path.abspath(folder)
    if any(sign in path for sign in NOT_IN_A_PATH):
        return (
            "No environment can be made in {!r}: venv and setuptools take a path with one of {} for something else. "
            "Move the project into another folder.".format(path, " ".join(map(repr, NOT_IN_A_PATH)))
        )
    wait_for_the_others()
    if os.path.exists(lock) and is_newer(marker, lock):
        return None  # by the installation that was waited for
    print(f"Installing {what} into {folder} (once)", flush=True)
    python = os.path.join(folder, "bin", "python")
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    only_what_is_locked = ("--no-deps", "--no-compile", "--require-hashes", "--only-binary=:all:")
    to_run = os.path.join(os.path.dirname(__file__), "run.txt")
    commands = [(*pip, *only_what_is_locked, "--requirement", lock)]
    if not is_newer(os.path.join(folder, "installed-to-run"), to_run):
        commands.insert(0, (sys.executable, "-m", "venv", "--clear", folder))
    commands.extend((*pip, "--no-deps", "--no-build-isolation", "--editable", project) for project in projects)
    for command in commands:
        if run(*command) != 0:
            return f"{what} could not be installed: see above."
    name_projects_from_the_environment(folder)
    run(python, "-m", "compileall", "-q", "-j", processes_to_compile_with(), os.path.join(folder, "lib"))
    with open(marker, "w") as file:
        file.write(os.path.realpath(folder))
    return None


if __name__ == "__main__":
    for number in STOP_SIGNALS:
        # What was started with nohup goes on.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, stop)
    try:
        sys.exit(install(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped. The next try starts again.")
