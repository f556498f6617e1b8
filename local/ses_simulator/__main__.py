"""Runs the SES simulator until it is interrupted and prints its URL first."""

import argparse
import signal
import sys

from local.ses_simulator import LedgerInUseError, PortTakenError, SesSimulator
from local.stop_request import StopRequest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local.ses_simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--ledger", help="file to keep the accepted emails in; without it they are forgotten")
    parser.add_argument("--rate", type=float, default=14, help="MaxSendRate per second; 0 is unlimited (default: 14)")
    parser.add_argument("--quota", type=int, default=50_000, help="Max24HourSend; -1 is unlimited (default: 50000)")
    parser.add_argument("--latency-ms", type=float, default=0, help="time that each accepted send takes")
    parser.add_argument("--region", default="us-east-1")
    options = parser.parse_args()
    stopping = StopRequest()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stopping.set())
    try:
        simulator = SesSimulator(
            host=options.host,
            port=options.port,
            ledger_path=options.ledger,
            rate=options.rate,
            daily_quota=options.quota,
            latency_ms=options.latency_ms,
            region=options.region,
        )
        with simulator:
            print(simulator.url, flush=True)
            stopping.wait()
    except (PortTakenError, LedgerInUseError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
