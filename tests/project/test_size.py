"""Rooms, not halls: no source file over 400 lines, no function over one long screen."""

from __future__ import annotations

import ast

from tree import ROOT, parsed, sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80  # docstring not counted


def test_no_long_files() -> None:
    paths = [
        path
        for folder in ("nnpkit", "lammps_plugin", "tests", "examples", "benchmarks")
        for path in sources(ROOT / folder, ".py", ".cpp", ".h", ".cu")
    ]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    offenders = [f"{path.relative_to(ROOT)}: {n} lines" for path, n in lengths.items() if n > MAX_FILE_LINES]
    assert not offenders, "\n".join(offenders)


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
