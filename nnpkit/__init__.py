"""nnpkit: from reference calculations to a production LAMMPS run with a neural network potential."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnpkit._version import __version__

__all__ = ["__version__", "load", "read", "train"]

_API = {"train": "nnpkit.api", "load": "nnpkit.api", "read": "nnpkit.api"}

if TYPE_CHECKING:
    from nnpkit.api import load, read, train


def __getattr__(name: str) -> Any:
    """Import the public functions on first use, so that `import nnpkit` stays fast."""
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'nnpkit' has no attribute {name!r}")
