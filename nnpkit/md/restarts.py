"""Simulations that go on where they stopped: restart files, logs and trajectories of several parts."""

from __future__ import annotations

import dataclasses
import json
import mmap
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.md.lammps import FILES, time_limit_commands
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Loop, ThermoReader, read_log

__all__ = [
    "CONTINUED",
    "RECORD",
    "continued_input",
    "join_parts",
    "newest_restart",
    "put_log_aside",
    "read_record",
    "whole_output",
    "write_record",
]

RECORD = "md.json"
"""File with what was asked for, from which a simulation is continued."""
CONTINUED = "in.continue"
"""Input of a later part of a run."""
_FRAME = b"ITEM: TIMESTEP\n"
_APPENDED = "part.lammpstrj"
_RESTARTS = ("final.restart", "restart.a", "restart.b")


def write_record(folder: Path, simulation: Simulation, ranks: int, pbc: Iterable[bool]) -> None:
    """Note in `folder` what is simulated there; its data file does not say which directions are periodic (`pbc`)."""
    content = {
        "simulation": dataclasses.asdict(simulation), "ranks": ranks, "periodic": [bool(p) for p in pbc],
    }  # fmt: skip
    with atomic_write(folder / RECORD) as stream:
        json.dump(content, stream, indent=1)
        stream.write("\n")


def read_record(folder: Path) -> tuple[Simulation, int, list[bool]]:
    """Simulation, ranks and periodic directions that `write_record` noted.

    Raises
    ------
    InputError
        If there is no simulation in the folder, or one that cannot be continued.
    """
    path = folder / RECORD
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        values = content["simulation"]
        for name in ("watch", "trajectories"):
            values[name] = None if values[name] is None else tuple(values[name])
        simulation, ranks = Simulation(**values), int(content["ranks"])
        periodic = [bool(p) for p in content["periodic"]]
    except FileNotFoundError:
        raise InputError(
            "there is no simulation to continue",
            where=str(folder),
            expected=f"a folder of nnpkit md with {RECORD}",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"this is no record of a simulation ({error})", where=str(path)) from None
    if not simulation.dynamics:
        raise InputError(
            "a minimisation is not continued", where=str(folder),
            hint=f"begin a new one from {folder}/final.extxyz",
        )  # fmt: skip
    return simulation, ranks, periodic


def newest_restart(folder: Path, command: Sequence[str]) -> tuple[str, int] | None:
    """Name and step of the newest restart file that LAMMPS can read; None if the dynamics had not begun to write any.

    `command` is that of `lammps_command`. LAMMPS itself says the step, so that a file which was being written when a
    run was killed is passed over.
    """
    found: list[tuple[int, str]] = []
    for name in _RESTARTS:
        if not (folder / name).is_file():
            continue
        probe = f'read_restart {name}\nprint "nnpkit: step $(step)"\n'
        (folder / "part.probe").write_text(probe, encoding="ascii")
        arguments = [*command[: command.index("-in")], "-in", "part.probe", "-log", "none"]
        done = subprocess.run(
            arguments, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False,
        )  # fmt: skip
        (folder / "part.probe").unlink()
        if match := re.search(r"^nnpkit: step (\d+)$", done.stdout, re.MULTILINE):
            found.append((int(match[1]), name))
    if not found:
        return None
    step, name = max(found)
    return name, step


def continued_input(text: str, restart: str | None, simulation: Simulation) -> str:
    """The input `text` of a simulation, changed to go on from the file `restart`, or to begin if there is none.

    The settings at its top stay as they are, also where somebody has edited them, but for the number of steps, which
    is that of the whole run, and the limit of time.

    Raises
    ------
    InputError
        If the input is not one that `nnpkit md` writes.
    """
    kept, relaxing, known = [], False, 0
    for line in text.splitlines():
        if line.startswith("# ---- "):
            relaxing = line.startswith("# ---- relaxation")
        if line.startswith("timer ") or (restart and (relaxing or line.startswith("velocity "))):
            continue
        known += line.startswith(("read_data ", "variable steps ", "run "))
        if line.startswith("variable steps "):
            line = f"variable steps        index {simulation.steps}"
        elif line.startswith("run "):
            kept += time_limit_commands(simulation.time_limit)
            ramp = " start 0 stop ${steps}" if simulation.ramp else ""
            line = "run             ${steps} upto" + ramp if restart else line
        elif restart and line.startswith("read_data "):
            line = f"read_restart    {restart}"
        elif restart and re.match(r"dump +trajectory ", line):
            line = line.replace(FILES["trajectory"], _APPENDED)
        elif restart and (match := re.match(r"dump +(extxyz|dcd|xtc) ", line)):
            line = line.replace(f"trajectory.{match[1]}", f"part.{match[1]}")
        kept.append(line)
    if known != 3:
        raise InputError(
            "no read_data, steps and run in the input", where=FILES["input"], expected="what nnpkit md writes"
        )
    return "\n".join(kept) + "\n"


def put_log_aside(folder: Path) -> None:
    """Give the log of the last part a number, so that the next part does not replace it."""
    log = folder / FILES["log"]
    if log.exists():
        log.rename(folder / f"{FILES['log']}.{len(_old_logs(folder)) + 1}")


def _old_logs(folder: Path) -> list[Path]:
    logs = folder.glob(f"{FILES['log']}.*")
    return sorted((p for p in logs if p.suffix[1:].isdigit()), key=lambda p: int(p.suffix[1:]))


def whole_output(folder: Path, last: ThermoReader) -> ThermoReader:
    """What LAMMPS has printed in all parts of a run, as one.

    Rows that a part has computed beyond the point from which the next part went on are left out; the count of
    extrapolations goes on.

    Parameters
    ----------
    folder : path
        With the logs of the earlier parts.
    last : ThermoReader
        The output of the last part.
    """
    parts = [p for p in (read_log(path) for path in _old_logs(folder)) if p.tables]
    if not parts or not last.tables:
        return last
    whole = ThermoReader(halted=last.halted, ended=last.ended, outside=last.outside, stopping=last.stopping)
    names, offset = last.tables[-1][0], 0.0
    rows: list[list[float]] = []
    counted = names.index("extrapolations_total") if "extrapolations_total" in names else None
    for part in [*parts, last]:
        mine = [list(row) for row in part.tables[-1][1]]
        if part.tables[-1][0] != names or not mine:
            continue
        rows = [row for row in rows if row[0] < mine[0][0]]
        if counted is not None:
            offset = rows[-1][counted] if rows else 0.0
            for row in mine:
                row[counted] += offset
        rows += mine
        whole.errors += part.errors
        whole.warnings += [text for text in part.warnings if text not in whole.warnings]
    whole.tables = [(names, rows)]
    loops = [part.loops[-1] for part in [*parts, last] if part.loops]
    if loops:
        whole.loops = [Loop(sum(x.seconds for x in loops), sum(x.steps for x in loops), loops[-1].atoms)]
    return whole


def join_parts(folder: Path, formats: Sequence[str] = ()) -> None:
    """Append the frames of the last part to the trajectory, in place of those that were computed beyond its start.

    Trajectories of other `formats` are not changed after the fact: those of a later part stay files of their own,
    ``trajectory.2.dcd`` and so on; text of extended XYZ is appended.
    """
    part = folder / _APPENDED
    if part.exists():
        first = _first_step(part)
        if first is not None:
            trajectory = folder / FILES["trajectory"]
            _cut(trajectory, first)
            _append(part, trajectory)
        part.unlink()
    for style in formats:
        part = folder / f"part.{style}"
        if part.exists():
            number = 2
            while (folder / f"trajectory.{number}.{style}").exists():
                number += 1
            part.rename(folder / f"trajectory.{number}.{style}")


def _first_step(path: Path) -> int | None:
    with open(path, "rb") as stream:
        if stream.readline() != _FRAME:
            return None
        word = stream.readline()
    return int(word) if word.strip().isdigit() and word.endswith(b"\n") else None


def _cut(path: Path, step: int) -> None:
    """Remove the frames of `step` and later from the end of a dump."""
    if not path.exists() or not path.stat().st_size:
        return
    with open(path, "r+b") as stream:
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
            end, place = len(text), text.rfind(_FRAME)
            while place >= 0:
                number = text[place + len(_FRAME) : place + len(_FRAME) + 24].split(b"\n")[0]
                if number.isdigit() and int(number) < step:
                    break
                end = place
                place = text.rfind(_FRAME, 0, place)
        stream.truncate(end)


def _append(part: Path, path: Path) -> None:
    with open(part, "rb") as source, open(path, "ab") as target:
        while block := source.read(1 << 24):
            target.write(block)
