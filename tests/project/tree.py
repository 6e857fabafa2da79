"""The checkout as the structure tests see it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nnpkit"
BUILD_FOLDERS = {"build", "_build", "generated", "__pycache__"}


def sources(folder: Path, *suffixes: str) -> list[Path]:
    """Files below `folder` with one of `suffixes`, without hidden folders and what a build made."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in suffixes
        and not any(
            part in BUILD_FOLDERS or part.startswith(".") for part in path.relative_to(folder).parts[:-1]
        )
    )


def parsed(folder: Path = PACKAGE) -> Iterator[tuple[Path, ast.Module]]:
    """Every Python file below `folder` with its syntax tree; paths relative to the root."""
    for path in sources(folder, ".py"):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
