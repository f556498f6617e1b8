"""Runs every benchmark, or those named: `python -m bench sending history`. Results go to bench/results."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = (
    "sending",
    "conversation",
    "scheduling",
    "intake",
    "segments",
    "statements",
    "imports",
    "importing",
    "senders",
    "distant",
    "history",
    "peers",
    "policy",
    "fairness",
    "huge",
    "database",
    "hostile",
    "webhooks",
    "console",
)

if __name__ == "__main__":
    chosen = sys.argv[1:] or BENCHMARKS
    if unknown := set(chosen) - set(BENCHMARKS):
        sys.exit(f"No benchmark is called {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}.")
    for name in chosen:
        print(f"\n== {name}\n", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)
