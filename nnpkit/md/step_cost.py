"""What a time step costs in LAMMPS on one core: atoms that stay where they are, lists of neighbours as in a run."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.md.box import data_text
from nnpkit.md.lammps import FILES
from nnpkit.md.lammps_run import lammps_command, run_lammps

__all__ = ["step_cost", "system_of_size"]

_REPEATS = 3
_SHARE = re.compile(r"([\d.]+)% CPU use")
_INPUT = """\
units           metal
atom_style      atomic
atom_modify     map yes
boundary        {boundary}
read_data       {data}
{pair}
neighbor        1.0 bin
neigh_modify    every 10 delay 0 check no
timestep        1e-9
fix             integrate all nve
thermo          {steps}
run             2
"""


def system_of_size(structure: Structure, atoms: int) -> Structure:
    """`structure` repeated along its periodic directions until it has at least so many `atoms`."""
    from ase import Atoms

    repeat, size = [1, 1, 1], structure.n_atoms
    edges = [float((edge**2).sum() ** 0.5) for edge in structure.cell]
    periodic = [axis for axis in range(3) if structure.pbc[axis]]
    while periodic and size * math.prod(repeat) < atoms:
        axis = min(periodic, key=lambda k: repeat[k] * edges[k])
        repeat[axis] += 1
    if math.prod(repeat) == 1:
        return structure
    cell = Atoms(structure.symbols, structure.positions, cell=structure.cell, pbc=structure.pbc).repeat(
        repeat
    )
    return Structure.from_atoms(cell, f"{structure.name} x {'x'.join(map(str, repeat))}")


def step_cost(
    structure: Structure,
    pair: Sequence[str],
    files: Mapping[str, bytes],
    steps: int = 20,
    lmp: str | None = None,
) -> float:
    """Microseconds of processor time per atom and time step, the least of a few short runs on one core.

    Parameters
    ----------
    structure : Structure
        Of `system_of_size`; atom types are its elements in alphabetic order.
    pair : sequence of str
        LAMMPS' commands for the potential.
    files : mapping
        Name and content of the files that these name.
    steps : int
        Steps of each run.
    lmp : str, optional
        Another LAMMPS than that of this environment.

    Raises
    ------
    InputError
        If there is no LAMMPS, or it ends early.
    SimulationError
        If LAMMPS refuses the potential or the structure.
    """
    command = lammps_command(1, lmp)
    boundary = " ".join("p" if periodic else "m" for periodic in structure.pbc)
    with tempfile.TemporaryDirectory(prefix="nnpkit-cost-") as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        text = _INPUT.format(boundary=boundary, data=FILES["data"], pair="\n".join(pair), steps=steps)
        text += f"run {steps}\n" * _REPEATS
        for file, words in (
            (FILES["input"], text),
            (FILES["data"], data_text(structure, sorted(set(structure.symbols)))),
        ):
            with atomic_write(folder / file) as stream:
                stream.write(words)
        reader = run_lammps(folder, command)
        shares = [
            float(share) for share in _SHARE.findall((folder / FILES["log"]).read_text(encoding="utf-8"))
        ]
    if len(reader.loops) < 1 + _REPEATS or len(shares) != len(reader.loops):
        raise InputError("LAMMPS ended before its last step", where=structure.name)
    # the processor's time: on a busy machine the clock also counts what others do
    runs = list(zip(reader.loops, shares, strict=True))[-_REPEATS:]
    return min(1e4 * share * loop.seconds / (loop.steps * loop.atoms) for loop, share in runs)
