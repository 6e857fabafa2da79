"""CP2K: the output of one calculation, and the trajectory of a run, ``PROJECT-pos-1.xyz`` with its companions.

Of a trajectory, energies stand in the comment lines, forces in ``PROJECT-frc-1.xyz``, the cell in ``PROJECT-1.cell``
or in the output of the run.  ``PROJECT-1.stress`` holds the motion of the atoms too and is no label; the tensors of
the output are, and belong to the frames with their energies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from nnpkit.data.formats.contract import DataFormat
from nnpkit.data.formats.cp2k_text import ENERGY, cell_vectors, forces_table, stress_tensor
from nnpkit.data.formats.text_files import bare_name, open_text, read_text
from nnpkit.data.notes import note
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE

__all__ = ["FORMAT", "read_cp2k"]

_COMMENT = re.compile(r"\s*i\s*=\s*(\d+),.*\bE\s*=\s*(-?\d\S*)")
_TRAJECTORY = re.compile(r"(.+)-pos-(\d+)\.xyz")
_ATOM = re.compile(
    r"^\s*\d+\s+\d+\s+([A-Z][a-z]?)\s+(?:\d+\s+)?(-?\d+\.\d+)\s+(-?\d+\.\d+)\s+(-?\d+\.\d+)\s", re.MULTILINE
)
_OUTPUTS = ("*.out", "*.log", "*.out.*", "*.log.*")
_SAME_ENERGY = 2e-8  # hartree; comment lines have ten decimals


def read_cp2k(path: str | Path) -> list[Structure]:
    """Frames of a CP2K output of one calculation, or of a trajectory ``PROJECT-pos-1.xyz``; Å, eV.

    Raises
    ------
    InputError
        For a calculation that did not converge, an output of several steps, a trajectory whose cell is not known or
        whose forces are of other atoms.
    """
    return _trajectory(Path(path)) if _TRAJECTORY.fullmatch(bare_name(path)) else [_output(Path(path))]


def _output(path: Path) -> Structure:
    text = read_text(path)
    where = str(path)
    energies = ENERGY.findall(text)
    if len(energies) > 1:
        raise InputError(
            f"the output holds {len(energies)} energies but the positions of the first only", where=where,
            hint="name the trajectory of the run, PROJECT-pos-1.xyz",
        )  # fmt: skip
    if "SCF run NOT converged" in text and "outer SCF loop converged" not in text:
        raise InputError("the self-consistency did not converge", where=where)
    begin = re.search(r"ATOMIC COORDINATES IN ANGSTROM", text, re.IGNORECASE)
    cell = cell_vectors(text)
    if begin is None or cell is None:
        raise InputError(
            "the output has no cell or no atomic coordinates",
            where=where,
            hint="PRINT_LEVEL MEDIUM prints both",
        )
    table = text[begin.end() :].lstrip("\n").split("\n\n")
    rows = next((found for part in table[:2] if (found := _ATOM.findall(part))), [])
    try:
        energy = float(energies[0]) * HARTREE if energies else None
        forces, stress = forces_table(text, len(rows)), stress_tensor(text)
    except ValueError as error:
        raise InputError(f"the output holds {error}", where=where) from None
    return Structure(
        symbols=[row[0] for row in rows], positions=np.array([row[1:] for row in rows], dtype=np.float64),
        cell=cell[0], pbc=cell[1], energy=energy, forces=forces, stress=stress, name=f"{path}#0",
    )  # fmt: skip


def _trajectory(path: Path) -> list[Structure]:
    match = _TRAJECTORY.fullmatch(bare_name(path))
    project, number = (match[1], match[2]) if match else ("", "")
    frames = _frames(path)
    companion = _companion(path, f"{project}-frc-{number}.xyz")
    forces = dict(enumerate(_frames(companion))) if companion else {}
    if not companion:
        note(f"no {project}-frc-{number}.xyz beside it: no forces", str(path))
    by_step = {step: (symbols, values) for step, _, symbols, values in forces.values()}
    texts = [
        read_text(file)
        for pattern in _OUTPUTS
        for file in sorted(path.parent.glob(pattern))
        if _is_output(file)
    ]
    cells = _cells(path, project, number, texts)
    stresses = [pair for text in texts for pair in _stresses(text)]
    if _companion(path, f"{project}-{number}.stress"):
        note(f"{project}-{number}.stress is not read: it holds the motion of the atoms", str(path))
    structures = []
    for k, (step, energy, symbols, positions) in enumerate(frames):
        name = f"{path}#{k}"
        force = by_step.get(step)
        if force and force[0] != symbols:
            raise InputError(f"the forces of step {step} are of other atoms", where=name)
        cell = cells.get(step, cells.get(-1))
        if cell is None:
            raise InputError(f"no cell of step {step}", where=name)
        if forces and force is None:
            note("no forces of this step", name)
        stress = next((s for e, s in stresses if abs(e - energy) < _SAME_ENERGY), None)
        structures.append(Structure(
            symbols=symbols, positions=positions, cell=cell[0], pbc=cell[1], energy=energy * HARTREE,
            forces=None if force is None else force[1] * (HARTREE / BOHR), stress=stress, name=name,
            info={"step": step},
        ))  # fmt: skip
    return structures


def _companion(path: Path, name: str) -> Path | None:
    return next(
        (file for suffix in ("", ".xz", ".gz", ".bz2") if (file := path.with_name(name + suffix)).is_file()),
        None,
    )


def _frames(path: Path) -> list[tuple[int, float, list[str], np.ndarray]]:
    """Step, energy in hartree, elements and columns of each frame."""
    lines = read_text(path).splitlines()
    frames, at = [], 0
    while at < len(lines) and lines[at].strip():
        where = f"{path}, line {at + 1}"
        word = lines[at].strip()
        comment = _COMMENT.match(lines[at + 1]) if at + 1 < len(lines) else None
        if not word.isdigit() or comment is None:
            raise InputError(
                "no frame of CP2K", where=where, expected="a number of atoms, then i = ..., E = ..."
            )
        rows = [line.split() for line in lines[at + 2 : at + 2 + int(word)]]
        try:
            values = np.array([row[1:4] for row in rows], dtype=np.float64).reshape(int(word), 3)
        except ValueError:
            raise InputError("the frame is cut off or not understood", where=where) from None
        frames.append((int(comment[1]), float(comment[2]), [row[0].capitalize() for row in rows], values))
        at += 2 + int(word)
    return frames


def _cells(
    path: Path, project: str, number: str, texts: Sequence[str]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Cell and periodic directions by step, -1 for all steps."""
    known = [found for text in texts if (found := cell_vectors(text))]
    pbc = known[0][1] if known else np.full(3, True)
    if file := _companion(path, f"{project}-{number}.cell"):
        rows = np.loadtxt(read_text(file).splitlines(), ndmin=2)
        if rows.shape[1] < 11:
            raise InputError(
                f"{rows.shape[1]} columns", where=str(file), expected="step, time and nine numbers"
            )
        return {int(row[0]): (row[2:11].reshape(3, 3), pbc) for row in rows}
    if not known:
        raise InputError(
            "the cell of this trajectory is not known", where=str(path),
            expected=f"{project}-{number}.cell or the output of the run (*.out, *.log) beside it",
        )  # fmt: skip
    if any((cell != known[0][0]).any() for cell, _ in known):
        raise InputError("outputs with several cells are beside it", where=str(path))
    note("the cell is that of the output beside it, for every step", str(path))
    return {-1: known[0]}


def _stresses(text: str) -> list[tuple[float, np.ndarray]]:
    """Energy in hartree and stress of each step of an output that has both."""
    ends = [match.start() for match in ENERGY.finditer(text)]
    pairs = []
    for begin, end in pairwise([*ends, len(text)]):
        match, tensor = ENERGY.search(text, begin), stress_tensor(text[begin:end])
        if match and tensor is not None:
            pairs.append((float(match[1]), tensor))
    return pairs


def _is_output(path: Path) -> bool:
    try:
        with open_text(path) as stream:
            return any("CP2K|" in line for _, line in zip(range(400), stream, strict=False))
    except InputError:
        return False


def _recognises(path: Path) -> bool:
    """An output by its banner, a trajectory by its name and the comment of its first frame."""
    if not path.is_file():
        return False
    if _TRAJECTORY.fullmatch(bare_name(path)):
        with open_text(path) as stream:
            return bool(_COMMENT.match([stream.readline(400) for _ in range(2)][1]))
    return not bare_name(path).lower().endswith((".xyz", ".extxyz", ".inp", ".restart")) and _is_output(path)


FORMAT = DataFormat(
    "CP2K: output of a calculation, or PROJECT-pos-1.xyz of a run",
    read=lambda path, options: read_cp2k(path),
    recognises=_recognises,
    order=5,
    aliases=("cp2k-output", "cp2k/output", "cp2k/md"),
)
