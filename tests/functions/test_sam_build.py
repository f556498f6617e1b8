"""What `sam build` makes of the template: complete, small enough, and for Lambda's processor."""

from pathlib import Path

from local.template import Template
from tests.functions.build_functions import build_lambda_dependencies

LIMIT_BYTES = 250 * 1024 * 1024
"""Of a function with its layers, unzipped. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_every_function_of_the_template_is_built_with_its_handler(built_template: Template) -> None:
    for function in built_template.functions.values():
        assert (function.folder / f"{function.handler.removesuffix('.lambda_handler')}.py").is_file()


def test_built_code_holds_neither_caches_nor_development_metadata(built_template: Template) -> None:
    folders = [function.folder for function in built_template.functions.values()]
    shared_layer = folders[0].parent / "SharedLayer" / "python"
    assert [path.name for path in shared_layer.iterdir()] == ["sendledger"]
    assert not [cache for folder in [*folders, shared_layer] for cache in folder.rglob("__pycache__")]


def test_each_function_fits_with_its_layers(built_template: Template) -> None:
    for function in built_template.functions.values():
        build = function.folder.parent
        total = sum(_size(folder) for folder in (function.folder, build / "SharedLayer", build / "DependenciesLayer"))
        assert total < LIMIT_BYTES / 2, f"{function.logical_id}: {total} bytes"


def test_native_modules_of_the_layer_are_for_the_processor_and_python_of_lambda() -> None:
    modules = {path.name for path in build_lambda_dependencies().rglob("*.so")}
    assert "_pydantic_core.cpython-313-aarch64-linux-gnu.so" in modules
    assert {module.partition(".")[2] for module in modules} == {"cpython-313-aarch64-linux-gnu.so"}
