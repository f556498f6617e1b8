"""`make run`: see `local.run`."""

import argparse
import signal
import sys


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # While the modules load, Ctrl-C ends the process without a stack trace: nothing has started yet.
    from local import run

    parser = argparse.ArgumentParser(
        prog="python -m local",
        description=run.__doc__,
        epilog="All of these are environment variables: PORT=9000 make run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    return run.main()


if __name__ == "__main__":
    sys.exit(main())
