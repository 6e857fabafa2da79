"""What hatchling asks when it makes a wheel: with ``NNPKIT_COMPILED``, the libraries in that folder go into it."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

__all__ = ["CompiledLibraries"]

NAMES = (
    "nnpkitplugin.so",
    "libnnpkit_model.so",
    "libnnpkit_ops.so",
    "libnnpkit.so",
    "nnpkit.h",
    "build.json",
)


class CompiledLibraries(BuildHookInterface):
    """Makes a wheel for one platform and any Python out of what ``nnpkit build --for-wheel`` has compiled."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the libraries to `build_data`; without ``NNPKIT_COMPILED`` the wheel holds sources only.

        Raises
        ------
        FileNotFoundError
            If one of them is missing.
        """
        folder = os.environ.get("NNPKIT_COMPILED")
        if not folder or version == "editable":
            return
        for name in NAMES:
            path = Path(folder, name).resolve()
            if not path.is_file():
                raise FileNotFoundError(f"{path}: run nnpkit build --for-wheel first")
            build_data["force_include"][str(path)] = f"nnpkit/compiled/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
