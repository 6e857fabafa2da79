"""A module imports only from layers above its own, wherever in the module the import stands."""

from __future__ import annotations

import ast

import pytest
from tree import PACKAGE, parsed

# From the foundation to the surface; modules of one group may import each other.
LAYERS = [
    {"_version"},
    {
        "units",
        "errors",
        "files",
        "lock",
        "memory",
        "seal",
        "threads",
        "progress",
        "registry",
        "section",
        "node",
        "parallel",
    },
    {"data"},
    {"kernels", "install"},
    {"models"},
    {"optim"},
    {"measure"},
    {"families"},
    {"training"},
    {"deploy"},
    {"md"},
    {"engines"},
    {"analysis"},
    {"active"},
    {"config"},
    {"workflow"},
    {"testing"},
    {"api"},
    {"cli", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported_layers(tree: ast.Module) -> list[tuple[str, int]]:
    """Layers of nnpkit that `tree` imports from, with line numbers."""
    modules: list[tuple[str, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full, from nnpkit..."
            if node.module == "nnpkit":
                modules += [(f"nnpkit.{alias.name}", node.lineno) for alias in node.names]
            elif node.module:
                modules.append((node.module, node.lineno))
    return [(name.split(".")[1], line) for name, line in modules if name.startswith("nnpkit.")]


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()
    }
    assert parts - {"__init__"} <= set(RANK)


def test_imports_only_go_up() -> None:
    offenders = []
    for path, tree in parsed():
        layer = path.parts[1].removesuffix(".py")
        if layer == "__init__":  # the package itself offers the public functions of `api`
            continue
        offenders += [
            f"{path}:{line} imports nnpkit.{used}"
            for used, line in imported_layers(tree)
            if used in RANK and RANK[used] > RANK[layer]
        ]
    assert not offenders, "\n".join(offenders)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import nnpkit.data.graph", ["data"]),
        ("def f():\n    from nnpkit.cli import main", ["cli"]),
        ("from nnpkit import __version__, units", ["__version__", "units"]),
        ("import torch", []),
    ],
)
def test_the_check_sees_every_form_of_import(text: str, expected: list[str]) -> None:
    assert [name for name, _ in imported_layers(ast.parse(text))] == expected
