"""`make run`: see `local.run`."""

import signal
import sys


def main() -> int:
    # While the modules load, Ctrl-C just ends the process: there is nothing to stop, and nothing worth a stack trace.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from local import run

    return run.main()


if __name__ == "__main__":
    sys.exit(main())
