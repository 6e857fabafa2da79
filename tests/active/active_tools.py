"""What the tests of active learning share: cheap crystals and a label program."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ase.build import bulk

from nnpkit.data.structure import Structure


def shaken_copper(n: int, seed: int = 1, scale: float = 0.1) -> list[Structure]:
    """Cells of four copper atoms, displaced."""
    random = np.random.default_rng(seed)
    structures = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += random.normal(scale=scale, size=(4, 3))
        structures.append(Structure.from_atoms(atoms, f"copper#{k}"))
    return structures


PROGRAM = """\
import sys, time
lines = open(sys.argv[1]).read().splitlines()
rows = [line.split() for line in lines[2:]]
x = [[float(word) for word in row[1:4]] for row in rows]
{before}
forces = [[0.1 * sum(b[k] - a[k] for b in x) for k in range(3)] for a in x]
energy = 0.025 * sum((b[k] - a[k]) ** 2 for a in x for b in x for k in range(3))
{middle}
with open(sys.argv[2], "w") as out:
    out.write(lines[0] + "\\n" + lines[1].replace("pos:R:3", "pos:R:3:forces:R:3") + f" energy={{energy!r}}\\n")
    for row, a, f in zip(rows, x, forces):
        out.write(" ".join([row[0], *map(repr, a), *map(repr, f)]) + "\\n")
{after}
"""


def program(folder: Path, before: str = "", middle: str = "", after: str = "") -> list[str]:
    """Command of a label program (springs between all atoms) with some lines that go wrong."""
    path = folder / "label_program.py"
    path.write_text(PROGRAM.format(before=before, middle=middle, after=after))
    return [sys.executable, "-S", str(path), "{input}", "{output}"]
