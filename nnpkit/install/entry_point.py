"""Where the compiled LAMMPS plugin lives; `lmp` asks here at every start.

The entry point ``lammps.plugins`` of nnpkit names `plugin_path`: LAMMPS opens every ``*plugin.so`` in that
folder. So this module imports nothing but the standard library and never fails; a folder that does not exist
is skipped by LAMMPS.
"""

from __future__ import annotations

import hashlib
import os
import sys

__all__ = [
    "CUDA_LIBRARY",
    "CUDA_RECORD",
    "C_HEADER",
    "C_LIBRARY",
    "KERNEL_LIBRARY",
    "MODEL_LIBRARY",
    "PLUGIN",
    "RECORD",
    "candidate_folders",
    "plugin_path",
    "wheel_folder",
]

PLUGIN = "nnpkitplugin.so"
"""What LAMMPS opens."""
MODEL_LIBRARY = "libnnpkit_model.so"
"""What the pair style opens when it needs a model; it carries libtorch."""
KERNEL_LIBRARY = "libnnpkit_ops.so"
"""The fused kernels alone, for Python."""
C_LIBRARY, C_HEADER = "libnnpkit.so", "nnpkit.h"
"""The kernels for programs in C, and what these include."""
CUDA_LIBRARY = "libnnpkit_cuda.so"
"""The kernels for GPUs, where ``nnpkit build --cuda`` has compiled them."""
RECORD = "build.json"
"""What they were compiled with."""
CUDA_RECORD = "build-cuda.json"
"""The same of the kernels for GPUs."""


def candidate_folders() -> list[str]:
    """Folders that may hold the plugin, in the order in which they are tried.

    ``$NNPKIT_PLUGIN_DIR`` if set; else the Python environment (a plugin fits one torch and one LAMMPS, so it
    belongs to the environment that holds both), else, where that is read-only, the user's data folder.
    """
    chosen = os.environ.get("NNPKIT_PLUGIN_DIR")
    if chosen:
        return [os.path.abspath(chosen)]
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    environment = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
    return [os.path.join(sys.prefix, "lib", "nnpkit"), os.path.join(data, "nnpkit", environment)]


def wheel_folder() -> str:
    """Folder of the libraries that a binary wheel brings; elsewhere there is none.

    It is asked last: who compiles has a reason, such as another torch or LAMMPS than those of the wheel.
    """
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "compiled")


def plugin_path() -> str:
    """Folder of the compiled plugin, or the folder that would hold it if nothing is built yet."""
    folders = candidate_folders()
    searched = folders if os.environ.get("NNPKIT_PLUGIN_DIR") else [*folders, wheel_folder()]
    return next((f for f in searched if os.path.isfile(os.path.join(f, PLUGIN))), folders[0])
