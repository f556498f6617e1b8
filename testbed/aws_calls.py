"""Which AWS operations a function can call, read from its code: a handler goes in, the IAM actions come out.

The code is followed from the handler by the names that it uses: functions and classes of its own folder and of the
package, methods by name. So no call is missed because no test takes its branch. Code that cannot be reached does not
count, even if its module is imported.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "layers/shared/sendledger"

ACTIONS = {
    # Methods of clients. Which action an S3 operation needs: https://docs.aws.amazon.com/AmazonS3/latest/userguide/
    # using-with-s3-policy-actions.html
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "delete_objects": "s3:DeleteObject",
    "delete_message": "sqs:DeleteMessage",
    "generate_db_auth_token": "rds-db:connect",
    "get_account": "ses:GetAccount",
    "get_configuration_set": "ses:GetConfigurationSet",
    "get_configuration_set_event_destinations": "ses:GetConfigurationSetEventDestinations",
    "get_email_identity": "ses:GetEmailIdentity",
    "get_object": "s3:GetObject",
    "get_secret_value": "secretsmanager:GetSecretValue",
    "head_object": "s3:GetObject",
    "invoke": "lambda:InvokeFunction",
    "list_email_identities": "ses:ListEmailIdentities",
    "list_objects_v2": "s3:ListBucket",
    "put_object": "s3:PutObject",
    "receive_message": "sqs:ReceiveMessage",
    "send_email": "ses:SendEmail",
    "upload_part": "s3:PutObject",
}
SIGNED_BY_HAND = {"SendEmail": "ses:SendEmail"}
"""Operations that are called by their name as a text."""


@dataclass(frozen=True)
class _Code:
    """A function, a class, or what a module does when it is imported."""

    file: Path
    node: ast.AST


@dataclass
class _Module:
    names: dict[str, _Code]
    imported: dict[str, tuple[Path, str | None]]
    top: list[ast.stmt]


@functools.cache
def _module(file: Path) -> _Module:
    names: dict[str, _Code] = {}
    imported: dict[str, tuple[Path, str | None]] = {}
    top: list[ast.stmt] = []
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = node.module == PACKAGE.name or node.module.startswith(f"{PACKAGE.name}.")
            source = (PACKAGE.parent if inside else file.parent) / node.module.replace(".", "/")
            for each in node.names:
                module = source / f"{each.name}.py"
                known = (module, None) if module.exists() else (source.with_suffix(".py"), each.name)
                imported[each.asname or each.name] = known
        elif isinstance(node, ast.Import) and PACKAGE not in file.parents:
            imported |= {each.asname or each.name: (file.parent / f"{each.name}.py", None) for each in node.names}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names[statement.name] = _Code(file, statement)
            # A route is called by its router.
            if any("router" in ast.unparse(decorator) for decorator in statement.decorator_list):
                top.append(statement)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {target.id: _Code(file, statement) for target in targets if isinstance(target, ast.Name)}
        else:
            top.append(statement)
    return _Module(names, imported, top)


def _methods(code: _Code) -> dict[str, _Code]:
    body = code.node.body if isinstance(code.node, ast.ClassDef) else []
    return {each.name: _Code(code.file, each) for each in body if isinstance(each, ast.FunctionDef)}


def _uses(code: _Code) -> Iterator[_Code]:
    """The names that this code uses. A class counts with its special methods: the others must be named to be called."""
    module = _module(code.file)
    nodes: list[ast.AST] = [code.node]
    if isinstance(code.node, ast.ClassDef):
        yield from (method for name, method in _methods(code).items() if name.startswith("__"))
        nodes = [*code.node.decorator_list, *code.node.bases]
    for node in (each for start in nodes for each in ast.walk(start)):
        if isinstance(node, ast.Name):
            if node.id in module.names:
                yield module.names[node.id]
            elif node.id in module.imported:
                source, name = module.imported[node.id]
                if source.exists() and name is not None and name in _module(source).names:
                    yield _module(source).names[name]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in module.imported:
            source, name = module.imported[node.value.id]
            if name is None and source.exists() and node.attr in _module(source).names:
                yield _module(source).names[node.attr]


def _modules_by_name(folder: Path) -> list[Path]:
    """The modules of routes, which the API imports by their names in its table of routes."""
    table = folder / "route_table.py"
    found = _module(table).names["ROUTES"].node if table.exists() else None
    keys = found.value.keys if isinstance(found, ast.AnnAssign) and isinstance(found.value, ast.Dict) else []
    return [folder / f"{ast.literal_eval(key)}.py" for key in keys if key is not None]


def _reached(handler: Path) -> set[_Code]:
    todo = [_module(handler).names["lambda_handler"]]
    imported = [source for source, name in _module(handler).imported.values() if name is None and source.exists()]
    for source in [*imported, *_modules_by_name(handler.parent)]:
        if source.parent == handler.parent:
            todo += [_Code(source, statement) for statement in _module(source).top]
    seen: set[_Code] = set()
    while todo:
        while todo:
            code = todo.pop()
            if code not in seen:
                seen.add(code)
                todo += _uses(code)
        attributes = {node.attr for code in seen for node in _own(code) if isinstance(node, ast.Attribute)}
        for code in list(seen):
            todo += [each for name, each in _methods(code).items() if name in attributes and each not in seen]
    return seen


def _own(code: _Code) -> Iterator[ast.AST]:
    if not isinstance(code.node, ast.ClassDef):
        yield from ast.walk(code.node)


def actions_of(handler: Path) -> set[str]:
    """The IAM actions that the code behind this file's `lambda_handler` needs."""
    found = set()
    for code in _reached(handler):
        for node in _own(code):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ACTIONS and (node.args == [] or node.func.attr == "generate_db_auth_token"):
                    found.add(ACTIONS[node.func.attr])
                elif node.func.attr == "generate_presigned_url":
                    found.add(ACTIONS[ast.literal_eval(node.args[0])])
            elif isinstance(node, ast.Constant) and node.value in SIGNED_BY_HAND:
                found.add(SIGNED_BY_HAND[node.value])
    return found
