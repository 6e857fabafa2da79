"""Explorers by name: ours, and those of other packages under the entry points ``nnpkit.explorers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnpkit.registry import Registry

if TYPE_CHECKING:
    from nnpkit.active.explorers.contract import Explorer

__all__ = ["EXPLORERS"]

EXPLORERS: Registry[Explorer] = Registry(
    "explorer",
    "nnpkit.explorers",
    {
        "lammps": "nnpkit.active.explore_worker:LAMMPS",
        "ase": "nnpkit.active.explorers.ase_dynamics:ASE",
    },
)
