"""What the product defines, the product uses. A function that only tests call is deleted."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from sendledger.core.vocabulary import AuditAction

ROOT = Path(__file__).parents[2]
DEFINING = ("functions", "layers/shared/sendledger")
USING = (*DEFINING, "local", "deployment", "migrations")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

REGISTERED = ("router.", "page(", "model_validator", "field_validator")
"""Decorators that pass a function to a library, which calls it."""

CALLED_BY_LIBRARIES = {
    "lambda_handler": "AWS Lambda",
    **dict.fromkeys(("comment", "pi"), "html.parser"),
    **dict.fromkeys(("execute_unnamed", "handle_messages", "handle_READY_FOR_QUERY"), "pg8000"),
    **dict.fromkeys(("process_bind_param", "process_result_value", "render_bind_cast"), "SQLAlchemy"),
    **dict.fromkeys(("readable", "readinto"), "io.BufferedReader"),
    **dict.fromkeys(
        ("on_message_begin", "on_header", "on_headers_complete", "on_body", "on_message_complete"), "httptools"
    ),
}


def trees(folders: tuple[str, ...]) -> dict[str, ast.Module]:
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in files}


def uses(tree: ast.AST) -> Counter[str]:
    """How often each name is read. An import alone is no use."""
    return Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


def is_called_from_outside(definition: Definition) -> bool:
    decorators = [ast.unparse(decorator) for decorator in definition.decorator_list]
    return (
        definition.name.startswith("__")
        or definition.name in CALLED_BY_LIBRARIES
        or any(decorator.startswith(REGISTERED) or decorator.endswith(".register") for decorator in decorators)
    )


def defined(tree: ast.Module) -> list[tuple[str, int, int]]:
    """Each function, method, class and constant of a module: its name, its line and its uses of itself."""
    named = [
        (node.name, node.lineno, uses(node)[node.name])
        for node in ast.walk(tree)
        if isinstance(node, Definition) and not is_called_from_outside(node)
    ]
    constants = [
        (name.id, node.lineno, 0)
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for name in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(name, ast.Name) and not name.id.startswith("__")
    ]
    return named + constants


def test_all_that_the_product_defines_is_used_by_it() -> None:
    used = sum((uses(tree) for tree in trees(USING).values()), Counter[str]())
    unused = [
        f"{file}:{line}: {name}"
        for file, tree in trees(DEFINING).items()
        for name, line, own in defined(tree)
        # A table is described for the migrations' test, also where statements name it as text.
        if used[name] <= own and "/core/tables/" not in file
    ]
    assert unused == []


def test_each_audit_action_is_recorded_somewhere() -> None:
    used = sum((uses(tree) for tree in trees(USING).values()), Counter[str]())
    assert [action.name for action in AuditAction if not used[action.name]] == []
