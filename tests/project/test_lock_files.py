"""The lock files hold what pyproject.toml and requirements/sam.in ask for: nothing missing, outdated or left over.

Checked with the metadata of the installed packages, so that it needs no network and newer versions do not matter.
`make lock` fixes what fails here.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LAYER_LOCK = ROOT / "layers/dependencies/requirements.txt"
RUN_LOCK = ROOT / "requirements/run.txt"
DEVELOPMENT_LOCK = ROOT / "requirements/dev.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _pins(lock: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Name → version of what the lock file installs in this environment."""
    lines = re.findall(r"^[a-z0-9].*?(?= \\$)", lock.read_text(), re.MULTILINE)
    requirements = [Requirement(line) for line in lines]
    return {
        str(canonicalize_name(each.name)): str(each.specifier).removeprefix("==")
        for each in requirements
        if each.marker is None or each.marker.evaluate(dict(environment))
    }


def _needed(
    asked: Iterable[Requirement], installed: Mapping[str, Distribution], environment: Mapping[str, str]
) -> dict[str, list[Requirement]]:
    """Every package that is asked for, directly or by another one, with all that is asked of it."""
    needed: dict[str, list[Requirement]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = list(asked)
    while waiting:
        requirement = waiting.pop()
        name = str(canonicalize_name(requirement.name))
        needed.setdefault(name, []).append(requirement)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen or name not in installed:
                continue
            seen.add((name, extra))
            waiting += [
                further
                for further in map(Requirement, installed[name].requires or [])
                if further.marker is None or further.marker.evaluate({**environment, "extra": extra})
            ]
    return needed


def _check(lock: Path, asked: Iterable[str], packages: Iterable[Distribution], environment: Mapping[str, str]) -> None:
    pins = _pins(lock, environment)
    installed = {str(canonicalize_name(package.metadata["Name"])): package for package in packages}
    needed = _needed([Requirement(line) for line in asked], installed, environment)
    assert pins.keys() == needed.keys()
    assert {name: installed[name].version for name in pins} == pins, "the environment is not what the lock file says"
    unmet = [str(each) for name, all_asked in needed.items() for each in all_asked if pins[name] not in each.specifier]
    assert not unmet


def test_layer_lock_holds_exactly_what_the_product_needs() -> None:
    _check(LAYER_LOCK, PROJECT["dependencies"], distributions(), {})


def test_lock_for_running_holds_exactly_what_the_local_stack_needs() -> None:
    _check(RUN_LOCK, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["run"]], distributions(), {})


def test_code_that_runs_imports_nothing_that_only_development_installs() -> None:
    lines = [
        line
        for folder in ("local", "functions", "layers/shared", "migrations")
        for file in (ROOT / folder).rglob("*.py")
        for line in file.read_text().splitlines()
    ]
    imported = {found[1] for line in lines if (found := re.match(r"\s*(?:import|from) (\w+)", line))}
    needed = {
        str(canonicalize_name(distribution))
        for module, names in packages_distributions().items()
        if module in imported
        for distribution in names
    }
    assert needed >= {"boto3", "moto"}
    assert needed - {"sendledger"} <= _pins(RUN_LOCK, {}).keys()


def test_development_lock_holds_exactly_what_development_needs() -> None:
    asked = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
    _check(DEVELOPMENT_LOCK, asked, distributions(), {})


def test_sam_lock_holds_exactly_what_the_sam_cli_needs() -> None:
    (packages,) = (ROOT / ".venv-sam").glob("lib/python*/site-packages")
    made_with = re.search(r"^version = (\S+)", (ROOT / ".venv-sam/pyvenv.cfg").read_text(), re.MULTILINE)
    assert made_with
    version = made_with[1]
    environment = {"python_full_version": version, "python_version": ".".join(version.split(".")[:2])}
    lines = (ROOT / "requirements/sam.in").read_text().splitlines()
    asked = [line for line in lines if line and not line.startswith("#")]
    _check(ROOT / "requirements/sam.txt", asked, distributions(path=[str(packages)]), environment)


def test_running_and_development_use_the_versions_that_are_deployed() -> None:
    deployed, to_run, development = (_pins(lock, {}) for lock in (LAYER_LOCK, RUN_LOCK, DEVELOPMENT_LOCK))
    assert deployed.items() <= to_run.items() <= development.items()


@pytest.mark.parametrize(
    "lock",
    [LAYER_LOCK, RUN_LOCK, DEVELOPMENT_LOCK, ROOT / "requirements/sam.txt", ROOT / "requirements/checkov.txt"],
    ids=lambda lock: lock.name,
)
def test_every_locked_package_has_hashes_and_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    for entry in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry
