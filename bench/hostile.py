"""What the worst input costs at each entrance: seconds of CPU and megabytes, of the corpus in `testbed.hostile`.

python -m bench.hostile [ENTRANCE …]
"""

from __future__ import annotations

import argparse
import sys

from bench.report import Table, write_report
from testbed.hostile import ENTRANCES, MAX_MEGABYTES, MAX_SECONDS, Cost, measure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=__doc__)
    parser.add_argument("entrances", nargs="*", metavar="ENTRANCE", help=f"of {', '.join(ENTRANCES)}; default: all")
    chosen = parser.parse_args().entrances or list(ENTRANCES)
    if unknown := set(chosen) - ENTRANCES.keys():
        parser.error(f"no entrance is called {', '.join(sorted(unknown))}")
    found = {name: measure(name) for name in chosen}
    rows, bars = [], []
    for name, costs in found.items():
        slowest, largest = max(costs, key=_seconds), max(costs, key=_megabytes)
        too_much = [cost for cost in costs if cost.is_too_much]
        rows.append(
            [
                *(name, str(len(costs)), f"{slowest.seconds:.2f} ({slowest.case})"),
                *(f"{largest.megabytes:.0f} ({largest.case})", str(len(too_much))),
            ]
        )
        bars.append((name, slowest.seconds))
        for cost in too_much:
            print(f"{name}: {cost.case}: {cost.failure or f'{cost.seconds} s, {cost.megabytes} MB'}", file=sys.stderr)
    header = ["entrance", "cases", "worst seconds of CPU", "worst megabytes", "beyond the limit"]
    title = f"Hostile input; the limit is {MAX_SECONDS:g} s and {MAX_MEGABYTES:g} MB a case"
    write_report("hostile", Table(title, header, rows), bars, "Each entrance runs in a process of its own.")
    return int(any(cost.is_too_much for costs in found.values() for cost in costs))


def _seconds(cost: Cost) -> float:
    return cost.seconds


def _megabytes(cost: Cost) -> float:
    return cost.megabytes


if __name__ == "__main__":
    sys.exit(main())
