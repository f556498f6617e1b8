"""How large each function's package is and how long its cold import takes: the table of docs/operations/scaling.md.

    python -m bench.packages

Builds with `sam build` and imports each handler in a new process that finds nothing but the build, with byte code in
the layers and none of its own, as on Lambda. The time is the processor's, which does not grow when others use this
machine too; loading is all computing once the files are in memory. Lambda's processor differs, and with less memory
than a full vCPU (1,769 MB) it takes longer.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from local.template import read_template
from testbed.build_functions import ENVIRONMENT, PYTHON, build_functions, build_lambda_dependencies

ROUNDS = 5


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def import_ms(module: str, path: str) -> float:
    """The median of some cold imports; the first one, which may have to read from the disk, is not counted."""
    command = [str(Path(sys.base_prefix) / "bin" / PYTHON), "-S", "-c", f"import {module}"]
    environment = {"PYTHONPATH": path, "PATH": os.defpath, "AWS_REGION": "us-east-1", "PYTHONDONTWRITEBYTECODE": "1"}
    times = []
    for _ in range(ROUNDS + 1):
        before = _children_ms()
        subprocess.run(command, env=environment, check=True)
        times.append(_children_ms() - before)
    return statistics.median(times[1:])


def _children_ms() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def main() -> None:
    build = build_functions()
    template = read_template(build / "template.yaml", {"ReplyDomain": "reply.example.com"}, given=ENVIRONMENT)
    shared, dependencies = build / "SharedLayer", build / "DependenciesLayer"
    for_lambda = megabytes(build_lambda_dependencies())
    print(f"Layers: dependencies {for_lambda:.0f} MB (250 MB is the limit), shared {megabytes(shared):.1f} MB.")
    print(f"Python {platform.python_version()} on {platform.machine()}, median of {ROUNDS}.\n")
    print("| function | its own code, kB | memory, MB | cold import, ms |\n| --- | ---: | ---: | ---: |")
    for name, function in sorted(template.functions.items()):
        path = os.pathsep.join(map(str, (function.folder, shared / "python", dependencies / "python")))
        took = import_ms(function.handler.removesuffix(".lambda_handler"), path)
        print(f"| {name} | {megabytes(function.folder) * 1000:.0f} | {function.memory} | {took:.0f} |")


if __name__ == "__main__":
    main()
