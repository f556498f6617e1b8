"""Builds the functions with `sam build`, as they are deployed except for the Python and the processor of this machine.

In go template.yaml and the sources, out comes a folder with the built template, functions and layers, and with AWS's
runtime interface client, which on Lambda is part of the runtime. Builds are kept by a hash of all that goes in.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What somebody who deploys chooses, and what exists only on AWS. Each function gets those that the template gives it.
ENVIRONMENT = {
    "DATABASE_HOST": "database.example.com",
    "DATABASE_ADMIN_SECRET_ARN": "",
    "DATABASE_CA_BUNDLE": "",
    "DEPLOYMENT_ID": "test",
    "POWERTOOLS_SERVICE_NAME": "test",
    "PUBLIC_URL": "https://mail.example.com",
    "SENDER_FROM_ADDRESS": "Acme Sales <sales@example.com>",
    "SES_IDENTITY": "example.com",
    "UNSUBSCRIBE_KEYS": "k1:dGhpcy1rZXktaXMtZm9yLXRlc3RzLW9ubHktMTIzNDU=",
}

ROOT = Path(__file__).parents[1]
SAM_ENVIRONMENT = ROOT / ".venv-sam"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# Lambda's name for it; macOS says arm64 too.
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())

_BUILDS = ROOT / ".aws-sam" / "tests"
_KEPT = 3
_SOURCES = ("template.yaml", "functions", "layers", "migrations", "requirements")
_LEFT_OUT = {"__pycache__", "sendledger.egg-info"}
_RUNTIME_CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")


def build_functions() -> Path:
    """The folder of an up-to-date build: `template.yaml`, a folder for each function and layer, and `runtime`.

    Processes that ask at the same time wait for one of them to build.
    """
    build = _BUILDS / f"{PYTHON}-{_fingerprint()}"
    with _alone():
        if not (build / "complete").exists():
            _sam_build(build)
            _copy_runtime_client(build / "runtime")
            (build / "complete").touch()
        os.utime(build)
        kept = sorted(_BUILDS.glob("python*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for old in kept[_KEPT:]:
            shutil.rmtree(old)
    return build


def build_lambda_dependencies() -> Path:
    """The dependencies layer for Lambda's own Python and processor, on any machine: a folder with `python` in it."""
    folder = ROOT / "layers" / "dependencies"
    contents = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    layer = _BUILDS / f"lambda-dependencies-{hashlib.sha256(contents).hexdigest()[:16]}"
    with _alone():
        if not (layer / "complete").exists():
            for old in _BUILDS.glob("lambda-dependencies-*"):
                shutil.rmtree(old)
            subprocess.run(
                ["make", "--silent", "build-DependenciesLayer", f"LAYER_PYTHON={sys.executable}", "LAYER_COMPILE="],
                cwd=folder,
                env={**os.environ, "ARTIFACTS_DIR": str(layer)},
                check=True,
            )
            (layer / "complete").touch()
    return layer


@contextmanager
def _alone() -> Iterator[None]:
    """Held by one process at a time; the operating system releases it when the process ends, however it ends."""
    _BUILDS.mkdir(parents=True, exist_ok=True)
    with (_BUILDS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fingerprint() -> str:
    digest = hashlib.sha256(ARCHITECTURE.encode())
    for source in _SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not _LEFT_OUT & set(file.parts):
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _sam_build(build: Path) -> None:
    # sam keeps here what it knows of earlier builds, and with it the layers that have not changed.
    work = _BUILDS / "sam" / PYTHON
    work.mkdir(parents=True, exist_ok=True)
    template = work / "template.yaml"
    text = (ROOT / "template.yaml").read_text()
    template.write_text(text.replace("python3.13", PYTHON).replace("arm64", ARCHITECTURE))
    subprocess.run(
        [
            *(str(SAM_ENVIRONMENT / "bin" / "sam"), "build", "--template", str(template), "--base-dir", str(ROOT)),
            *("--build-dir", str(work / "build"), "--cached", "--cache-dir", str(work / "cache")),
        ],
        cwd=work,
        env={
            **os.environ,
            # sam looks for the function's Python by its name.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "SAM_CLI_TELEMETRY": "0",
            "__SAM_CLI_APP_DIR": str(work),
            "LAYER_PYTHON": sys.executable,
            "LAYER_PYTHON_VERSION": platform.python_version(),
            "LAYER_MACHINE": platform.machine(),
        },
        check=True,
    )
    shutil.rmtree(build, ignore_errors=True)
    (work / "build").rename(build)


def _copy_runtime_client(target: Path) -> None:
    for name in _RUNTIME_CLIENT:
        for file in importlib.metadata.distribution(name).files or []:
            # A command of the package lies outside the folder of the packages.
            if ".." not in file.parts and file.suffix != ".pyc":
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target / file)
