"""CP2K: what is written, what is read, and the derivatives of its energies where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from nnpkit.active.labellers.cp2k import Cp2kReference, cp2k_input, parse_cp2k
from nnpkit.active.labellers.reference_calculation import CalculationError, Limits, compute_label
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "active_cp2k" / "blyp.inp"
OUTPUT = """\
  *** SCF run converged in     9 steps ***
  outer SCF loop converged in   2 iterations or   29 steps

 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:              -17.207851009963910


 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X                  Y                  Z
      1      1      O          -0.006828743405    -0.000804531918    -0.008768931824
      2      2      H           0.001793818917     0.007494799538     0.005182528357
      3      2      H           0.001620755613    -0.007608986324     0.005380881026
 SUM OF ATOMIC FORCES          -0.003414168875    -0.000918718704     0.001794477559     0.003964939201

 STRESS| Analytical stress tensor [GPa]
 STRESS|                        x                   y                   z
 STRESS|      x        2.63885318168E-01   4.36620848227E-03  -8.46296561033E-02
 STRESS|      y        4.36620848227E-03   6.83002721505E-01  -1.32160029498E-02
 STRESS|      z       -8.46296561033E-02  -1.32160029498E-02  -1.74714647335E-01
 STRESS| 1/3 Trace                                             2.57391130779E-01
"""


def water(shift: float = 0.0, strain: float = 0.0) -> Structure:
    """A squeezed water molecule in a small box; the oxygen moved along y, or all of it strained along y."""
    atoms = molecule("H2O")
    atoms.positions[:, 1] *= 0.93
    atoms.positions += 2.5
    atoms.positions[0, 1] += 0.05 + shift
    atoms.set_cell([5.5, 5.6, 5.4])
    atoms.pbc = True
    structure = Structure.from_atoms(atoms, "water")
    deformation = np.diag([1.0, 1.0 + strain, 1.0])
    return structure.replace(positions=structure.positions @ deformation, cell=structure.cell @ deformation)


def test_numbers_are_converted() -> None:
    label = parse_cp2k(OUTPUT, water())
    assert label.energy == pytest.approx(-17.207851009963910 * 27.211386245988)
    assert label.forces[1, 1] == pytest.approx(0.007494799538 * 27.211386245988 / 0.529177210903)
    assert label.stress[0, 2] == pytest.approx(0.0846296561033 / 160.21766208)  # of the other sign, eV/Å³


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ENERGY|", "ENERGIE|", "no energy"),
        ("ATOMIC FORCES in", "FORCES:", "no forces"),
        ("      3      2      H ", " 3 2 H ? ", "forces of 2 atoms instead of 3"),
        ("-17.207851009963910", "*****", "cannot be read"),
        ("6.83002721505E-01", "*******", "cannot be read"),
    ],
)
def test_what_is_missing_is_named(old, new, words) -> None:
    with pytest.raises(CalculationError, match=words):
        parse_cp2k(OUTPUT.replace(old, new), water())


def test_input(tmp_path) -> None:
    template = EXAMPLE.read_text()
    values = {"cutoff": 300, "minimizer": "CG", "scf_guess": "ATOMIC"}
    text = cp2k_input(template, water(), values)
    assert "{{" not in text
    assert "B 0.000000000000 5.600000000000 0.000000000000" in text
    assert "PERIODIC XYZ" in text
    with pytest.raises(InputError, match=r"placeholder \{\{cutoff\}\} has no value"):
        cp2k_input(template, water(), {})
    (tmp_path / "bad.inp").write_text("&GLOBAL")
    with pytest.raises(InputError, match=r"has no \{\{cell\}\}"):
        Cp2kReference(str(tmp_path / "bad.inp"))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            OUTPUT.replace("SCF run converged", "SCF run NOT converged").replace(
                "outer SCF loop converged", "x"
            ),
            "SCF did",
        ),
        ("outer SCF loop FAILED to converge", "outer loop"),
        ("nothing", "no energy"),
    ],
)
def test_what_did_not_converge_is_refused(tmp_path, output, words) -> None:
    """A program that prints what CP2K would."""
    (tmp_path / "out").write_text(output)
    reference = Cp2kReference(
        str(EXAMPLE), ["cat", str(tmp_path / "out")], {"cutoff": 300, "minimizer": "CG"}
    )
    reference.command = ["sh", "-c", f"cat {tmp_path / 'out'}"]
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(CalculationError, match=words):
        compute_label(reference, water(), work, Limits(), {})


needs_cp2k = pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="no cp2k.psmp on the PATH")


def label_of(structure: Structure, work: Path) -> Structure:
    reference = Cp2kReference(str(EXAMPLE), settings={"cutoff": 400, "minimizer": "DIIS"})
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    return compute_label(reference, structure, work, Limits(net_force=0.1), {})


@pytest.fixture(scope="module")
def label(tmp_path_factory) -> Structure:
    """What the example says about a molecule."""
    return label_of(water(), tmp_path_factory.mktemp("label") / "work")


@needs_cp2k
def test_a_label_is_what_cp2k_says_by_itself(label, tmp_path) -> None:
    """An input written by hand, coordinates from a file, energy and forces from other lines of the output."""
    atoms = water().to_atoms()
    ase.io.write(tmp_path / "water.xyz", atoms, format="xyz")
    text = EXAMPLE.read_text().replace("WFN_RESTART_FILE_NAME start.wfn", "")
    coordinates = "&TOPOLOGY\nCOORD_FILE_NAME water.xyz\nCOORD_FILE_FORMAT XYZ\n&END TOPOLOGY"
    text = re.sub(r"&COORD.*&END COORD", coordinates, text, flags=re.DOTALL)
    for name, value in {
        "cell": "ABC 5.5 5.6 5.4",
        "cutoff": 400,
        "minimizer": "DIIS",
        "scf_guess": "ATOMIC",
    }.items():
        text = text.replace(f"{{{{{name}}}}}", str(value))
    (tmp_path / "by_hand.inp").write_text(text)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.setdefault("CP2K_DATA_DIR", "/usr/share/cp2k")
    done = subprocess.run(
        ["cp2k.psmp", "-i", "by_hand.inp"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    energy = float(re.findall(r"Total energy: +(\S+)", done.stdout)[-1]) * HARTREE
    rows = re.findall(r"^ +[123] +[12] +[OH] +(\S+) +(\S+) +(\S+)$", done.stdout, flags=re.MULTILINE)
    assert label.energy == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(label.forces, np.array(rows[-3:], float) * HARTREE / BOHR, atol=1e-6)


@needs_cp2k
def test_forces_and_stress_are_derivatives_of_the_energies(label, tmp_path) -> None:
    """Independent of how CP2K prints them: its energies of displaced and strained molecules."""

    def energy(**change: float) -> float:
        return label_of(water(**change), tmp_path / "work").energy

    force = -(energy(shift=0.02) - energy(shift=-0.02)) / 0.04
    stress = (energy(strain=0.01) - energy(strain=-0.01)) / 0.02 / water().volume
    assert label.forces[0, 1] == pytest.approx(force, abs=0.1)
    assert label.stress[1, 1] == pytest.approx(stress, abs=3e-3)
    assert abs(stress) > 6e-3
