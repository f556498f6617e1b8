"""What `sam build` makes of the template: complete, small enough, and for Lambda's processor."""

import re
from importlib.util import cache_from_source
from pathlib import Path

from local.rds_certificates import BUNDLE
from local.template import Template
from testbed.build_functions import ROOT, build_lambda_dependencies

LIMIT_BYTES = 250 * 1024 * 1024
"""Of a function with its layers, unzipped. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _shared_layer(built_template: Template) -> Path:
    return next(iter(built_template.functions.values())).folder.parent / "SharedLayer" / "python"


def test_every_function_of_the_template_is_built_with_its_handler(built_template: Template) -> None:
    for function in built_template.functions.values():
        assert (function.folder / f"{function.handler.removesuffix('.lambda_handler')}.py").is_file()


def test_built_code_holds_neither_caches_nor_development_metadata(built_template: Template) -> None:
    folders = [function.folder for function in built_template.functions.values()]
    assert [path.name for path in _shared_layer(built_template).iterdir()] == ["sendledger"]
    assert not [cache for folder in folders for cache in folder.rglob("__pycache__")]


def test_layer_whose_version_makes_a_deployment_migrate_has_the_code_of_the_migrate_function(
    built_template: Template,
) -> None:
    """No more than that: byte code of this machine would make every deployment migrate."""
    code = built_template.functions["MigrateFunction"].folder
    layer = code.parent / "MigrationsLayer" / "python"
    built, own = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (layer, code)
    )
    assert built == own != {}


def test_each_module_of_the_package_has_byte_code_for_the_python_that_runs_it(built_template: Template) -> None:
    package = _shared_layer(built_template) / "sendledger"
    modules = set(package.rglob("*.py"))
    assert set(package.rglob("*.pyc")) == {Path(cache_from_source(path)) for path in modules} != set()


def test_each_function_fits_with_its_layers(built_template: Template) -> None:
    for function in built_template.functions.values():
        build = function.folder.parent
        total = sum(_size(folder) for folder in (function.folder, build / "SharedLayer", build / "DependenciesLayer"))
        assert total < LIMIT_BYTES / 2, f"{function.logical_id}: {total} bytes"


def test_layer_has_the_authorities_of_rds_where_the_settings_expect_them(built_template: Template) -> None:
    folder = next(iter(built_template.functions.values())).folder.parent / "DependenciesLayer"
    assert (folder / "rds-global-bundle.pem").read_bytes() == BUNDLE.read_bytes()
    assert "Default: /opt/rds-global-bundle.pem" in (ROOT / "template.yaml").read_text()


def test_table_of_packages_in_the_docs_is_about_these_functions(built_template: Template) -> None:
    text = (ROOT / "docs/operations/scaling.md").read_text()
    rows = {
        name: (int(kilobytes), int(memory))
        for name, kilobytes, memory in re.findall(r"^\| (\w+Function) \| (\d+) \| (\d+) \| \d+ \|$", text, re.MULTILINE)
    }
    functions = built_template.functions
    assert {name: memory for name, (_, memory) in rows.items()} == {
        name: function.memory for name, function in functions.items()
    }
    for name, (kilobytes, _) in rows.items():
        # Code grows from day to day; the table is out of date when somebody would decide otherwise by it.
        assert abs(_size(functions[name].folder) / 1000 - kilobytes) < 20 + kilobytes / 4, name
    layer = re.search(r"dependencies (\d+) MB unzipped", text)
    assert layer is not None
    assert abs(_size(build_lambda_dependencies()) / 1e6 - int(layer[1])) < 3


def test_native_modules_of_the_layer_are_for_the_processor_and_python_of_lambda() -> None:
    modules = {path.name for path in build_lambda_dependencies().rglob("*.so")}
    assert "_pydantic_core.cpython-313-aarch64-linux-gnu.so" in modules
    assert {module.partition(".")[2] for module in modules} == {"cpython-313-aarch64-linux-gnu.so"}
