"""How fast an uploaded file is imported, and how much memory its import takes.

    python -m bench.importing [--rows 100000 1000000]

The file has duplicates and every kind of broken row (testbed/lead_files.py); it lies in moto's S3, and each import and
each export runs in a process of its own, as in Lambda. Their memory must not grow with the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import botocore.session

from bench.report import Table, write_report
from bench.sending import migrated_database
from local.object_store import ObjectStore
from sendledger.core import database
from sendledger.core.settings import DatabaseSettings
from sendledger.exports import exports
from sendledger.exports.write_export import write_export
from sendledger.files.file_bucket import FileBucket
from sendledger.leads import import_files, lead_batches
from testbed import lead_files

BUCKET = "bench"
NO_DEADLINE = float("inf")


def work(what: str, url: str, id_: str) -> None:
    """In the process that is measured: import a lead batch, or write an export."""
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    started = time.perf_counter()
    if what == "import":
        import_files.work(engine, FileBucket(BUCKET), uuid.UUID(id_), NO_DEADLINE)
    else:
        write_export(engine, FileBucket(BUCKET), uuid.UUID(id_), NO_DEADLINE)
    took = time.perf_counter() - started
    print(json.dumps({"seconds": took, "memory": peak_memory()}))


def peak_memory() -> float:
    """The peak memory of this process, in MB. getrusage can return the peak of the parent process instead."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measured(what: str, url: str, id_: object) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.importing", "--work", what, url, str(id_)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def run(sizes: list[int]) -> None:
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    store = ObjectStore([BUCKET], "us-east-1", lambda bucket, key, event: None)
    store.start()
    os.environ["AWS_ENDPOINT_URL_S3"] = store.url
    table: list[tuple[str, ...]] = []
    bars: list[tuple[str, float]] = []
    for rows in sizes:
        with migrated_database() as url:
            for what, count, found in measure(url, rows):
                rate = count / found["seconds"]
                name = f"{what} of {count:,} rows"
                table.append((name, f"{found['seconds']:.1f}", f"{rate:,.0f}", f"{found['memory']:.0f}"))
                bars.append((name, rate))
    store.stop()
    header = ("what", "seconds", "rows/s", "peak memory, MB")
    write_report(
        "importing", Table("Imports and exports through S3", header, table), bars, "Rows a second in the chart."
    )


def measure(url: str, rows: int) -> list[tuple[str, int, dict[str, float]]]:
    engine = database.engine(DatabaseSettings.read({"DATABASE_URL": url}))
    with engine.begin() as connection:
        batch = lead_batches.create_pending(connection, {"name": "bench"})
    expected = put_file(batch["source_object"], rows)
    imported = measured("import", url, batch["id"])
    with engine.begin() as connection:
        done = lead_batches.get(connection, batch["id"])
        assert (done["status"], done["successful_imports"]) == ("completed", expected["imported"]), dict(done)
        export_id = exports.create(connection, "leads", None, {}, "bench")["id"]
    exported = measured("export", url, export_id)
    engine.dispose()
    return [("import", rows, imported), ("export", expected["imported"], exported)]


def put_file(key: str, rows: int) -> Counter[str]:
    client: Any = botocore.session.get_session().create_client("s3")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "leads.csv"
        expected = lead_files.write(path, rows)
        client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    return expected


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
    else:
        run(options.rows)
