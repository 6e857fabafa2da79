"""Outputs of other programs that ASE reads: the energy that forces belong to, and the sign of the stress."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign_tools import file

from nnpkit.data.formats.reading import detect_format, read
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE

ESPRESSO = """     Program PWSCF v.7.2 starts on 29Nov2026 at 10: 0: 0
     bravais-lattice index     =            0
     lattice parameter (alat)  =       7.5589  a.u.
     unit-cell volume          =     431.9000 (a.u.)^3
     number of atoms/cell      =            2
     number of atomic types    =            1
     celldm(1)=   7.558900  celldm(2)=   0.000000  celldm(3)=   0.000000

     crystal axes: (cart. coord. in units of alat)
               a(1) = (   1.000000   0.000000   0.000000 )
               a(2) = (   0.000000   1.000000   0.000000 )
               a(3) = (   0.000000   0.000000   1.000000 )

     atomic species   valence    mass     pseudopotential
        Al             3.00    26.98150     Al( 1.00)

   Cartesian axes

     site n.     atom                  positions (alat units)
         1           Al  tau(   1) = (   0.0000000   0.0000000   0.0000000  )
         2           Al  tau(   2) = (   0.5000000   0.5000000   0.4000000  )

     number of k points=     1  Marzari-Vanderbilt smearing, width (Ry)=  0.0500
                       cart. coord. in units 2pi/alat
        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   2.0000000

!    total energy              =      -4.00000000 Ry
     total all-electron energy =       -4.5 Ry
     estimated scf accuracy    <       0.00000001 Ry
     smearing contrib. (-TS)   =      -0.01000000 Ry
     internal energy E=F+TS    =      -3.99000000 Ry

     convergence has been achieved in   5 iterations

     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.01000000    0.00000000   -0.02000000
     atom    2 type  1   force =    -0.01000000    0.00000000    0.02000000

     Total force =     0.031623     Total SCF correction =     0.000001

     Computing stress (Cartesian axis) and pressure

          total   stress  (Ry/bohr**3)                   (kbar)     P=       50.00
   0.00020000   0.00000000   0.00000000           29.42        0.00        0.00
   0.00000000   0.00040000   0.00010000            0.00       58.84       14.71
   0.00000000   0.00010000   0.00042000            0.00       14.71       61.74

     JOB DONE.
"""


def test_quantum_espresso(tmp_path: Path) -> None:
    """The total energy of a smeared metal is the free energy; the stress printed is a pressure."""
    (only,) = read(file(tmp_path, ESPRESSO, "pw.out"))
    assert only.energy == pytest.approx(-2.0 * HARTREE, rel=1e-6)
    assert only.forces[0] == pytest.approx(np.array([0.005, 0.0, -0.01]) * HARTREE / BOHR, rel=1e-6)
    expected = -np.array([[2.0, 0, 0], [0, 4.0, 1.0], [0, 1.0, 4.2]]) * 0.5e-4 * HARTREE / BOHR**3
    np.testing.assert_allclose(only.stress, expected, rtol=1e-6)


ABINIT = """.Version 9.6.2 of ABINIT
 -outvars: echo values of preprocessed input variables --------
            acell      7.0000000000E+00  8.0000000000E+00  9.0000000000E+00 Bohr
            natom           2
           ntypat           1
            rprim      1.0000000000E+00  0.0000000000E+00  0.0000000000E+00
                       0.5000000000E+00  1.0000000000E+00  0.0000000000E+00
                       0.0000000000E+00  0.0000000000E+00  1.0000000000E+00
            typat      1  1
            znucl       13.00000
================================================================================
 iterations are completed or convergence reached
 cartesian coordinates (angstrom) at end:
    1      0.00000000000000     0.00000000000000     0.00000000000000
    2      2.00000000000000     2.00000000000000     1.60000000000000
 cartesian forces (eV/Angstrom) at end:
    1      0.25000000000000     0.00000000000000    -0.50000000000000
    2     -0.25000000000000     0.00000000000000     0.50000000000000
 Cartesian components of stress tensor (hartree/bohr^3)
  sigma(1 1)= -1.00000000E-04  sigma(3 2)= -5.00000000E-05
  sigma(2 2)= -2.00000000E-04  sigma(3 1)=  0.00000000E+00
  sigma(3 3)= -2.10000000E-04  sigma(2 1)=  0.00000000E+00

--- !EnergyTerms
total_energy_eV     : -5.44227E+01
...
 END DATASET(S)
"""


def test_abinit(tmp_path: Path) -> None:
    """ABINIT prints a stress as ASE has it, negative when compressed, and the cell as lengths and directions."""
    (only,) = read(file(tmp_path, ABINIT, "run.out"))
    assert only.energy == -54.4227
    assert np.diag(only.cell) == pytest.approx(np.array([7.0, 8.0, 9.0]) * BOHR)
    assert only.cell[1, 0] == pytest.approx(0.5 * 8.0 * BOHR)
    assert only.forces[1].tolist() == [-0.25, 0.0, 0.5]
    expected = -np.array([[1.0, 0, 0], [0, 2.0, 0.5], [0, 0.5, 2.1]]) * 1e-4 * HARTREE / BOHR**3
    np.testing.assert_allclose(only.stress, expected, rtol=1e-6)


def test_what_abinit_changes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="optcell"):
        read(
            file(
                tmp_path,
                ABINIT.replace("            natom", "          optcell           2\n            natom"),
                "run.out",
            )
        )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "run.out",
            "  Basic array size parameters:\n  | Max. basis fn. angular momentum   :  3\n",
            "aims-output",
        ),
        ("job.log", "\n          Invoking FHI-aims ...\n", "aims-output"),
        ("job.log", " Entering Gaussian System\n", "gaussian-out"),
        ("run.out", ABINIT, "abinit-out"),
        ("stdout", ESPRESSO, "espresso-out"),
    ],
)
def test_outputs_are_recognised_by_their_banners(tmp_path: Path, name: str, text: str, expected: str) -> None:
    assert detect_format(file(tmp_path, text, name)) == expected
