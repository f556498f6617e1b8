"""Input that is made to exhaust its reader: a corpus for each entrance, and what reading it costs.

An entrance is where text from strangers, or from a careless colleague, comes in. Each is run in a process of its own,
under limits, so that the worst case ends that process and not the one that measures. What is measured is CPU time and
memory: they do not depend on what else the machine does.

python -m testbed.hostile ENTRANCE prints one line of JSON for each case; `measure` calls it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MEGABYTE = 1024 * 1024

MAX_SECONDS = 2.0
MAX_MEGABYTES = 200.0
"""What the worst case of an entrance may cost."""

_CPU_SECONDS_OF_ALL = 300
_ADDRESS_SPACE = 4096 * MEGABYTE
_IS_LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class Cost:
    """The cost of one case. `failure` is the unexpected error, if there was one."""

    case: str
    seconds: float
    megabytes: float
    failure: str | None = None

    @property
    def is_too_much(self) -> bool:
        return self.failure is not None or self.seconds > MAX_SECONDS or self.megabytes > MAX_MEGABYTES


@dataclass(frozen=True)
class Entrance:
    """`read` gets a case of the corpus as the product would, and raises only for what is a fault of the product."""

    read: Callable[[Any], object]
    corpus: Mapping[str, Callable[[], Any]]


def measure(entrance: str) -> list[Cost]:
    """The costs of all cases of an entrance; a case that ends the process is the last one."""
    folders = [
        ROOT,
        ROOT / "functions" / "campaign_api",
        ROOT / "functions" / "unsubscribe",
        ROOT / "layers" / "shared",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders)), "POWERTOOLS_LOG_LEVEL": "CRITICAL"}
    command = [sys.executable, "-m", "testbed.hostile", entrance]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    costs, begun = list[Cost](), None
    for line in ended.stdout.splitlines():
        read = json.loads(line)
        if "begun" in read:
            begun = read["begun"]
        else:
            costs.append(Cost(**read))
            begun = None
    if begun is not None or ended.returncode:
        what = f"the process ended with {ended.returncode}: {ended.stderr.strip()[-500:]}"
        costs.append(Cost(begun or "before the first case", MAX_SECONDS, MAX_MEGABYTES, what))
    return costs


def entrance(name: str) -> Entrance:
    """Imports what this entrance needs, and nothing else."""
    return ENTRANCES[name]()


def _api_json() -> Entrance:
    from testbed import hostile_requests

    return Entrance(hostile_requests.answer, hostile_requests.JSON_BODIES)


def _template() -> Entrance:
    from testbed import hostile_templates

    return Entrance(hostile_templates.render, hostile_templates.TEMPLATES)


def _unsubscribe() -> Entrance:
    from testbed import hostile_requests

    return Entrance(hostile_requests.unsubscribe, hostile_requests.FORMS)


def _csv_import() -> Entrance:
    from testbed import hostile_requests

    return Entrance(hostile_requests.import_csv, hostile_requests.CSV_FILES)


def _reply() -> Entrance:
    from sendledger.feedback.read_reply import read_reply
    from testbed.hostile_mail import HOSTILE_MAIL

    return Entrance(read_reply, HOSTILE_MAIL)


def _opt_out_csv() -> Entrance:
    from testbed import hostile_requests

    return Entrance(hostile_requests.import_opt_outs, hostile_requests.CSV_FILES)


def _upload() -> Entrance:
    from testbed import hostile_requests

    return Entrance(hostile_requests.import_file, hostile_requests.UPLOADS)


def _ses_event() -> Entrance:
    from sendledger.feedback.read_ses_events import UnreadableEvent, read_ses_event
    from testbed import hostile_requests
    from testbed.ses_events import ACCOUNT

    def read(body: str) -> object:
        try:
            return read_ses_event(body, ACCOUNT, hostile_requests.CONFIGURATION_SET)
        except UnreadableEvent:
            return None

    return Entrance(read, hostile_requests.EVENTS)


ENTRANCES: Mapping[str, Callable[[], Entrance]] = {
    "api_json": _api_json,
    "csv_import": _csv_import,
    "opt_out_csv": _opt_out_csv,
    "upload": _upload,
    "template": _template,
    "unsubscribe": _unsubscribe,
    "reply": _reply,
    "ses_event": _ses_event,
}


def _costs(name: str) -> Iterator[Cost | str]:
    chosen = entrance(name)
    for case, make in chosen.corpus.items():
        yield case
        yield cost_of(case, chosen.read, make())[0]


def cost_of(case: str, read: Callable[[Any], Any], given: Any) -> tuple[Cost, Any]:
    """What reading costs in this process, and what it returns; None if it fails."""
    result = failure = None
    before, started = _memory("VmRSS"), time.process_time()
    if _IS_LINUX:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: man 5 proc_pid_clear_refs
    try:
        result = read(given)
    except Exception as error:  # any exception of the product is a finding
        failure = f"{type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - started
    return Cost(case, round(seconds, 3), round(max(0.0, _memory("VmHWM") - before), 1), failure), result


def _memory(which: str) -> float:
    """In megabytes, from /proc/self/status. Only Linux has it; elsewhere nothing is measured."""
    if not _IS_LINUX:
        return 0.0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(which)


def main(name: str) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS_OF_ALL, _CPU_SECONDS_OF_ALL))
    if _IS_LINUX:
        resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    for found in _costs(name):
        line = {"begun": found} if isinstance(found, str) else vars(found)
        sys.stdout.write(f"{json.dumps(line)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
