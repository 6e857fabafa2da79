"""Formats of reference data by name: ours, and those of other packages under the entry points ``nnpkit.formats``."""

from __future__ import annotations

from nnpkit.data.formats.contract import DataFormat
from nnpkit.registry import Registry

__all__ = ["FORMATS"]

FORMATS: Registry[DataFormat] = Registry(
    "format",
    "nnpkit.formats",
    {
        "extxyz": "nnpkit.data.formats.extxyz:FORMAT",
        "runner": "nnpkit.data.formats.runner_data:FORMAT",
        "deepmd": "nnpkit.data.formats.deepmd_npy:FORMAT",
        "aenet": "nnpkit.data.formats.aenet_xsf:FORMAT",
        "pwmlff": "nnpkit.data.formats.pwmlff_npy:FORMAT",
        "pwmat": "nnpkit.data.formats.pwmat_movement:FORMAT",
        "cp2k": "nnpkit.data.formats.cp2k_files:FORMAT",
        "lammps-data": "nnpkit.data.formats.lammps_data:FORMAT",
        "lammps-dump": "nnpkit.data.formats.lammps_dump:FORMAT",
        "gpumd-xyz": "nnpkit.data.formats.gpumd_xyz:FORMAT",
        "store": "nnpkit.data.store.store_format:FORMAT",
    },
)
"""Formats with a reader of their own; ASE's come on top."""
