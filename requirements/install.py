"""Makes a virtual environment: python3 requirements/install.py FOLDER LOCK-FILE WHAT-TO-CALL-IT [PROJECT]

The lock files are complete, so nothing is resolved; every package is a wheel, checked against its hash. They are
compiled at once, by all cores: where PYTHONDONTWRITEBYTECODE is set, each process would do so anew. A file for another
Python that a package brings does not compile, which does no harm. Ctrl-C ends it in one line. Any Python 3 can read
this file, so that one that is too old can say so.
"""

import os
import signal
import subprocess
import sys

NEEDED = (3, 11)


def run(*command):
    """Run a command in a session of its own, which Ctrl-C does not reach but through this process."""
    # Ctrl-C waits until it is known which process to end.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    process = subprocess.Popen(command, start_new_session=True)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        code = process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return code


def install(folder, lock, what, project=None):
    if sys.version_info < NEEDED:
        return (
            "Python {}.{} or newer is needed; this is {}. If this machine has one under another name: "
            "make PYTHON=python3.13 …".format(*NEEDED, sys.version.split()[0])
        )
    print(f"Installing {what} into {folder} (once)", flush=True)
    python = os.path.join(folder, "bin", "python")
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    only_what_is_locked = ("--no-deps", "--no-compile", "--require-hashes", "--only-binary=:all:")
    commands = [
        (sys.executable, "-m", "venv", "--clear", folder),
        (*pip, *only_what_is_locked, "--requirement", lock),
    ]
    if project:
        commands.append((*pip, "--no-deps", "--no-build-isolation", "--editable", project))
    for command in commands:
        if run(*command) != 0:
            return f"{what} could not be installed: see above."
    run(python, "-m", "compileall", "-q", "-j", "0", os.path.join(folder, "lib"))
    return None


if __name__ == "__main__":
    try:
        sys.exit(install(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("Stopped. The next try starts anew.")
