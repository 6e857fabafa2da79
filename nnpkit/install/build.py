"""Compile the LAMMPS plugin against the torch and LAMMPS of this environment."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.install import installed
from nnpkit.install.entry_point import (
    C_HEADER,
    C_LIBRARY,
    KERNEL_LIBRARY,
    MODEL_LIBRARY,
    PLUGIN,
    RECORD,
    candidate_folders,
)
from nnpkit.install.installed import Compiler, Lammps, Torch

__all__ = [
    "TORCH_BESIDE",
    "BuildResult",
    "build_plugin",
    "fingerprint",
    "install_libraries",
    "read_record",
    "run_cmake",
    "source_fingerprint",
    "source_folder",
    "writable_folder",
]

_LIBRARIES = (
    KERNEL_LIBRARY,
    MODEL_LIBRARY,
    C_LIBRARY,
    C_HEADER,
    PLUGIN,
)  # in the order in which they are put in place


TORCH_BESIDE = "../../torch"
"""Folder of torch as seen from that of the libraries in a wheel, nnpkit/compiled."""


@dataclass(frozen=True)
class BuildResult:
    """Outcome of `build_plugin`."""

    folder: Path  # that holds the plugin
    record: dict[str, Any]  # content of build.json
    compiled: bool  # False: what was there fits already
    seconds: float


def build_plugin(
    *,
    lammps_include: Path | None = None,
    lammps_sizes: str | None = None,
    force: bool = False,
    sanitize: bool = False,
    for_wheel: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> BuildResult:
    """Compile the plugin and put it where `lmp` finds it, unless one that fits is there already.

    Parameters
    ----------
    lammps_include : path, optional
        Headers or source tree of another LAMMPS than the ``lammps`` package of this environment.
    lammps_sizes : {'smallbig', 'bigbig'}, optional
        Integer sizes that LAMMPS was compiled with.
    force : bool
        Compile even if nothing has changed.
    sanitize : bool
        With the address and undefined behaviour sanitizers, for tests.
    for_wheel : bool
        To be packed into a wheel: torch is looked for beside nnpkit, wherever that is, and any build of its release
        will do.
    say : callable
        Gets a line of text per step.

    Raises
    ------
    InputError
        If something that is needed is missing, or compilation fails; an earlier plugin stays as it was.
    """
    start = time.monotonic()
    torch, lammps = installed.find_torch(), installed.find_lammps(lammps_include, lammps_sizes)
    sources, compiler = source_folder(), installed.find_compiler()
    record = _record(torch, lammps, compiler, source_fingerprint(sources))
    record |= {"sanitize": True} if sanitize else {}
    if for_wheel:  # nothing of this machine, which is not the one that reads it
        record |= {"wheel": True, "torch_folder": TORCH_BESIDE, "lammps_include": ""}
    folder = writable_folder()
    if not force and read_record(folder) == record and all((folder / name).is_file() for name in _LIBRARIES):
        return BuildResult(folder, record, False, time.monotonic() - start)

    say(f"torch {torch.version} in {torch.folder}")
    say(f"LAMMPS {lammps.version}, headers in {lammps.include}")
    say(f"{compiler.version} ({compiler.path})")
    with tempfile.TemporaryDirectory(prefix="nnpkit-build-") as scratch:
        options = {
            "NNPKIT_SANITIZE": "ON" if sanitize else "OFF",
            "NNPKIT_TORCH_BESIDE": TORCH_BESIDE if for_wheel else "",
        }
        _compile(sources, Path(scratch), torch, lammps, compiler, options, log=folder / "build.log")
        install_libraries(Path(scratch, "install"), folder, _LIBRARIES, RECORD, record)
    return BuildResult(folder, record, True, time.monotonic() - start)


def source_folder() -> Path:
    """Sources of the plugin: beside the package in a source tree, inside it once installed."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "lammps_plugin", package / "lammps_plugin"):
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise InputError("the sources of the plugin are missing", where=str(package), hint="install nnpkit again")


def source_fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of the sources in `folder` and of the kernels."""
    return fingerprint(folder, Path(__file__).resolve().parents[1] / "kernels" / "csrc")


def fingerprint(*folders: Path) -> str:
    """SHA-256 over the names and contents of the sources in `folders`."""
    digest = hashlib.sha256()
    for root in folders:
        for path in sorted(p for p in root.rglob("*") if p.suffix in {".cpp", ".h", ".txt", ".cu", ".map"}):
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def read_record(folder: Path, name: str = RECORD) -> dict[str, Any] | None:
    """What the plugin in `folder` was compiled with, or what else has a record of that name; None without."""
    try:
        record = json.loads((folder / name).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _record(torch: Torch, lammps: Lammps, compiler: Compiler, sources: str) -> dict[str, Any]:
    return {
        "torch": torch.version,
        "torch_folder": str(torch.folder),
        "cxx11_abi": torch.cxx11_abi,
        "cuda": torch.cuda,
        "lammps": lammps.version,
        "lammps_include": str(lammps.include),
        "lammps_sizes": lammps.sizes,
        "mpi": installed.mpi_name(lammps.mpi_include),
        "compiler": compiler.version,
        "sources_sha256": sources,
    }


def writable_folder() -> Path:
    """First candidate folder that can be written to, created."""
    refused = ""
    for name in candidate_folders():
        try:
            os.makedirs(name, exist_ok=True)
        except OSError as error:
            refused = refused or str(error)
            continue
        if os.access(name, os.W_OK):
            return Path(name)
        refused = refused or f"no permission to write to {name}"
    raise InputError(
        f"there is no place for the plugin ({refused})", hint="set NNPKIT_PLUGIN_DIR to a folder of yours"
    )


def _compile(
    sources: Path,
    scratch: Path,
    torch: Torch,
    lammps: Lammps,
    compiler: Compiler,
    options: dict[str, str],
    log: Path,
) -> None:
    settings = {
        "CMAKE_CXX_COMPILER": compiler.path,
        "NNPKIT_TORCH_DIR": str(torch.folder),
        "NNPKIT_TORCH_VERSION": torch.version,
        "NNPKIT_CXX11_ABI": str(int(torch.cxx11_abi)),
        "NNPKIT_LAMMPS_INCLUDE": str(lammps.include),
        "NNPKIT_LAMMPS_VERSION": lammps.version,
        "NNPKIT_LAMMPS_DEFINITIONS": f"LAMMPS_{lammps.sizes.upper()}",
        "NNPKIT_MPI_INCLUDE": str(lammps.mpi_include or ""),
        **options,
    }
    run_cmake(sources, scratch, settings, log, "the plugin")


def run_cmake(sources: Path, scratch: Path, settings: dict[str, str], log: Path, what: str) -> None:
    """Run CMake: configure, build and install into ``scratch/install``; `log` gets what it says.

    Raises
    ------
    InputError
        If a tool is missing or compiling `what` fails.
    """
    cmake = installed.find_program("cmake")
    if cmake is None:
        raise InputError(
            "there is no cmake", expected="cmake 3.22 or newer", hint="install it with: pip install cmake"
        )
    if not (shutil.which("make") or shutil.which("ninja")):
        raise InputError(
            "there is neither make nor ninja", hint="on Debian or Ubuntu: sudo apt-get install make"
        )
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": str(scratch / "install"),
        **settings,
    }
    generator = [] if shutil.which("make") else ["-G", "Ninja"]
    build = str(scratch / "build")
    steps = [
        [cmake, "-S", str(sources), "-B", build, *generator, *(f"-D{k}={v}" for k, v in settings.items())],
        [cmake, "--build", build, "--parallel", str(min(os.cpu_count() or 1, 8))],
        [cmake, "--install", build],
    ]
    output = ""
    for step in steps:
        result = subprocess.run(
            step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        output += f"$ {' '.join(step)}\n{result.stdout}"
        if result.returncode:
            with atomic_write(log) as stream:
                stream.write(output)
            raise InputError(f"compiling {what} failed: {_first_error(result.stdout)}", hint=f"see {log}")
    with atomic_write(log) as stream:
        stream.write(output)


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if line.startswith("CMake Error"):  # the reason stands on the next line
            return " ".join(lines[index : index + 2])
        if "error:" in line.lower():
            return line
    return lines[-1] if lines else "no output"


def install_libraries(
    staged: Path, folder: Path, names: tuple[str, ...], record_name: str, record: dict[str, Any]
) -> None:
    """Put the libraries and their record into `folder`, each in one step; running programs keep theirs."""
    (folder / record_name).unlink(missing_ok=True)  # nothing claims to fit until all are in place
    for name in names:
        with open(staged / name, "rb") as source, atomic_write(folder / name, "wb") as target:
            shutil.copyfileobj(source, target)
    with atomic_write(folder / record_name) as stream:
        json.dump(record, stream, indent=1)
        stream.write("\n")
