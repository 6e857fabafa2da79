"""Compile the CUDA kernels: a library of their own beside the plugin, for which torch need not know CUDA."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnpkit.errors import InputError
from nnpkit.install import installed
from nnpkit.install.build import (
    BuildResult,
    fingerprint,
    install_libraries,
    read_record,
    run_cmake,
    writable_folder,
)
from nnpkit.install.entry_point import CUDA_LIBRARY, CUDA_RECORD

__all__ = ["DEFAULT_ARCHITECTURES", "build_cuda", "cuda_fingerprint", "cuda_record"]

DEFAULT_ARCHITECTURES = "80;90"
"""Compute capabilities that are compiled for; GPUs newer than the last one compile what they need themselves."""


def build_cuda(
    *,
    architectures: str | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> BuildResult:
    """Compile the CUDA kernels and put them beside the plugin, unless those that are wanted are there already.

    Parameters
    ----------
    architectures : str, optional
        Compute capabilities without the dot, separated by semicolons; by default `DEFAULT_ARCHITECTURES`.
    force : bool
        Compile even if nothing has changed.
    say : callable
        Gets a line of text per step.

    Raises
    ------
    InputError
        If nvcc or something else that is needed is missing, or compilation fails; an earlier library stays.
    """
    start = time.monotonic()
    architectures = architectures or DEFAULT_ARCHITECTURES
    if not all(part.isdigit() for part in architectures.split(";")):
        raise InputError(
            f"architectures {architectures!r}", where="--cuda-arch", expected='numbers such as "80;90"'
        )
    nvcc, compiler, torch = installed.find_nvcc(), installed.find_compiler(), installed.find_torch()
    record: dict[str, Any] = {
        "architectures": architectures,
        "nvcc": nvcc.version,
        "compiler": compiler.version,
        "cxx11_abi": torch.cxx11_abi,
        "sources_sha256": cuda_fingerprint(),
    }
    folder = writable_folder()
    if not force and read_record(folder, CUDA_RECORD) == record and (folder / CUDA_LIBRARY).is_file():
        return BuildResult(folder, record, False, time.monotonic() - start)
    say(f"{nvcc.version} ({nvcc.path}), for compute capabilities {architectures}")
    with tempfile.TemporaryDirectory(prefix="nnpkit-build-") as scratch:
        settings = {
            "CMAKE_CUDA_COMPILER": nvcc.path,
            "CMAKE_CUDA_HOST_COMPILER": compiler.path,
            "CMAKE_CUDA_ARCHITECTURES": architectures,
            "CMAKE_CXX_COMPILER": compiler.path,
            "NNPKIT_CXX11_ABI": str(int(torch.cxx11_abi)),
        }
        run_cmake(_sources(), Path(scratch), settings, folder / "build-cuda.log", "the CUDA kernels")
        install_libraries(Path(scratch, "install"), folder, (CUDA_LIBRARY,), CUDA_RECORD, record)
    return BuildResult(folder, record, True, time.monotonic() - start)


def cuda_fingerprint() -> str:
    """SHA-256 over the sources of the library."""
    return fingerprint(_sources(), _sources().parent / "csrc")


def _sources() -> Path:
    return Path(__file__).resolve().parents[1] / "kernels" / "cuda"


def cuda_record(folder: Path) -> dict[str, Any] | None:
    """What the library in `folder` was compiled with; None if there is none."""
    record = read_record(folder, CUDA_RECORD)
    return record if record is not None and (folder / CUDA_LIBRARY).is_file() else None
