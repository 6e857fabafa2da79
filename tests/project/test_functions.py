"""No function is longer than one long screen; how long a file is, its idea decides."""

from __future__ import annotations

import ast

from tree import parsed

MAX_FUNCTION_LINES = 80  # docstring not counted


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of `function` without its docstring."""
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_no_long_functions() -> None:
    offenders = [
        f"{path}:{node.lineno} {node.name}: {code_lines(node)} lines"
        for path, tree in parsed()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > MAX_FUNCTION_LINES
    ]
    assert not offenders, "\n".join(offenders)
