"""CP2K: outputs of one calculation and trajectories with their companions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign_tools import file, read_with_notes

from nnpkit.data.formats.cp2k_text import forces_table
from nnpkit.data.formats.reading import read
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE

HEAD = """ CP2K| version string:                                          CP2K version 2023.1
 CELL| Volume [angstrom^3]:                                             120.000000
 CELL| Vector a [angstrom]:       4.000     0.000     0.000   |a| =     4.000000
 CELL| Vector b [angstrom]:       0.500     5.000     0.000   |b| =     5.024938
 CELL| Vector c [angstrom]:       0.000     0.000     6.000   |c| =     6.000000
 CELL| Periodicity                                                            XY
 MODULE QUICKSTEP: ATOMIC COORDINATES IN ANGSTROM

   Atom Kind Element         X             Y             Z       Z(eff)     Mass
      1    1 O     8      0.000000      0.000000      0.000000   6.0000  15.9994
      2    2 H     1      0.960000      0.100000      0.000000   1.0000   1.0079


 SCF PARAMETERS         Density guess:                                    ATOMIC
"""
FORCES = """
 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      O           0.01000000     0.00000000    -0.02000000
      2      2      H          -0.01000000     0.00000000     0.02000000
 SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000
"""
STRESS = """
 STRESS| Analytical stress tensor [GPa]
 STRESS|                        x                   y                   z
 STRESS|      x        1.60217663400E+00   0.00000000000E+00   0.00000000000E+00
 STRESS|      y        0.00000000000E+00  -1.60217663400E+00   0.00000000000E+00
 STRESS|      z        0.00000000000E+00   0.00000000000E+00   0.00000000000E+00
"""


def energy(value: float) -> str:
    return f"\n ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:             {value:.15f}\n"


def test_output_of_one_calculation(tmp_path: Path) -> None:
    (only,) = read(file(tmp_path, HEAD + energy(-17.25) + FORCES + STRESS, "run.out"))
    assert only.energy == pytest.approx(-17.25 * HARTREE, rel=1e-14)
    assert only.pbc.tolist() == [True, True, False]
    assert only.cell[1, 0] == 0.5
    assert only.positions[1].tolist() == [0.96, 0.1, 0.0]
    assert only.forces[0] == pytest.approx(np.array([0.01, 0.0, -0.02]) * HARTREE / BOHR)
    assert np.diag(only.stress) == pytest.approx([-0.01, 0.01, 0.0])  # CP2K prints a pressure


def test_forces_of_newer_versions() -> None:
    text = (
        " FORCES| Atomic forces [hartree/bohr]\n FORCES| Atom x y z |f|\n"
        " FORCES|      1   1.0E-02  0.0E+00 -2.0E-02  2.2E-02\n FORCES|      2  -1.0E-02  0.0E+00  2.0E-02  2.2E-02\n"
        " FORCES| Sum    0.0E+00  0.0E+00  0.0E+00  0.0E+00\n"
    )
    assert forces_table(text, 2)[1] == pytest.approx(np.array([-0.01, 0.0, 0.02]) * HARTREE / BOHR)
    with pytest.raises(ValueError, match="forces of 2 atoms instead of 3"):
        forces_table(text, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + energy(-17.25) + energy(-17.26), "2 energies but the positions of the first only.*pos-1.xyz"),
        (HEAD + " *** WARNING *** SCF run NOT converged ***\n" + energy(-1), "did not converge"),
        (HEAD[: HEAD.index(" MODULE")] + energy(-1), "PRINT_LEVEL MEDIUM"),
        (
            HEAD + energy(-1) + FORCES.replace("      2      2      H ", " cut "),
            "forces of 1 atoms instead of 2",
        ),
    ],
)
def test_outputs_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(file(tmp_path, text, "run.out"))


def trajectory(folder: Path, forces: bool = True, cell: bool = True, element: str = "H") -> Path:
    """Two steps in a cell that grows, with files that CP2K writes beside the positions."""
    frames, tables = "", ""
    for k in range(2):
        head = f"       2\n i =   {k}, time =        {k}.000, E =       -17.2{k}00000000\n"
        frames += f"{head}  O  0.0 0.0 {k}.0\n  {element}  0.96 0.0 0.0\n"
        tables += f"{head}  O  0.01 0.0 0.0\n  H  -0.01 0.0 0.0\n"
    if forces:
        file(folder, tables, "w-frc-1.xyz")
    if cell:
        rows = "".join(f" {k} {k}.0 4.{k} 0 0 0 5 0 0 0 6 120\n" for k in range(2))
        file(folder, f"# Step Time Ax Ay Az Bx By Bz Cx Cy Cz Volume\n{rows}", "w-1.cell")
        file(folder, "# Step Time xx\n 0 0 1\n", "w-1.stress")
    return file(folder, frames, "w-pos-1.xyz")


def test_trajectory(tmp_path: Path) -> None:
    path = trajectory(tmp_path)
    file(tmp_path, HEAD + energy(-17.21) + STRESS, "w.out")
    frames, said = read_with_notes(path)
    assert [f.energy for f in frames] == pytest.approx([-17.20 * HARTREE, -17.21 * HARTREE], rel=1e-12)
    assert frames[1].positions[0, 2] == 1.0
    assert frames[1].cell[0, 0] == 4.1
    assert frames[1].pbc.tolist() == [True, True, False]
    assert frames[1].forces[0, 0] == pytest.approx(0.01 * HARTREE / BOHR)
    assert frames[0].stress is None  # the output has the second step only
    assert frames[1].stress[0, 0] == pytest.approx(-0.01)
    assert "w-1.stress is not read" in said


def test_trajectories_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the cell of this trajectory is not known"):
        read(trajectory(tmp_path, cell=False, forces=False))
    file(tmp_path, HEAD, "w.log")
    frames, said = read_with_notes(trajectory(tmp_path, cell=False, forces=False))
    assert frames[0].forces is None
    assert "no w-frc-1.xyz beside it: no forces" in said
    assert "the cell is that of the output" in said
    with pytest.raises(InputError, match="forces of step 0 are of other atoms"):
        read(trajectory(tmp_path, cell=False, element="F"))
