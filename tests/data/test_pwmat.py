"""PWmat's MOVEMENT and PWMLFF's npy folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign_tools import file, read_with_notes

from nnpkit.data.formats.reading import read
from nnpkit.errors import InputError

CELL = np.array([[4.0, 0.0, 0.0], [0.5, 5.0, 0.0], [0.0, -0.25, 6.0]])  # 120 Å³
FRACTIONS = np.array([[0.0, 0.0, 0.0], [0.25, 0.5, 0.125]])
FORCES = np.array([[0.25, 0.0, -0.5], [-0.25, 0.0, 0.5]])
DERIVATIVE = np.array([[12.0, 1.2, 0.0], [1.2, -6.0, 0.6], [0.0, 0.6, 2.4]])  # dE/dstrain, eV


def row(*values: float) -> str:
    return "   " + "  ".join(f"{value:.12E}" for value in values)


def step(
    energy: float = -20.5, heading: str = "Force (-force, eV/Angstrom)", scf: int = 9, stress: bool = True
) -> str:
    """One step of lithium and silicon whose kinetic energy is 1.5 eV."""
    lines = [
        "   2 atoms,Iteration (fs) =    0.1000000000E+01, Etot,Ep,Ek (eV) = "
        f"{row(energy + 1.5, energy, 1.5)}, SCF = {scf}",
        " MD_INFO: METHOD(1-VV,2-NH,3-LV,4-LVPR,5-NHRP) TIME(fs) TEMP(K)",
        "          1    0.1000000000E+01   0.30000E+03",
        " Lattice vector (Angstrom)",
    ]  # fmt: skip
    for vector, derivative in zip(CELL, DERIVATIVE, strict=True):
        lines.append(row(*vector) + (f"     stress (eV): {row(*derivative)}" if stress else ""))
    lines.append(" Position (normalized), move_x, move_y, move_z")
    lines += [f"  {z}{row(*r)}     1  1  1" for z, r in zip((3, 14), FRACTIONS, strict=True)]
    lines.append(f" {heading}")
    lines += [f"  {z}{row(*-f)}" for z, f in zip((3, 14), FORCES, strict=True)]
    lines += [" Velocity (bohr/fs)", f"  3{row(0, 0, 1)}", f"  14{row(0, 0, -1)}"]
    lines += [
        "Atomic-Energy, Etot(eV),E_nonloc(eV),Q_atom:dE(eV)=  -0.2E+05",
        f"  3{row(-9)}",
        f"  14{row(-11)}",
    ]
    return "\n".join([*lines, " -------------------------------------------------", ""])


@pytest.mark.parametrize("heading", ["Force (-force, eV/Angstrom)", "Force (eV/Angstrom)"])
def test_movement(tmp_path: Path, heading: str) -> None:
    frames, said = read_with_notes(
        file(tmp_path, step(-20.5, heading) + step(-20.25, heading, stress=False), "MOVEMENT")
    )
    assert [frame.energy for frame in frames] == [
        -20.5,
        -20.25,
    ]  # of the potential, without the kinetic energy
    assert frames[0].symbols == ["Li", "Si"]
    np.testing.assert_allclose(frames[0].positions, FRACTIONS @ CELL)
    np.testing.assert_allclose(frames[0].forces, FORCES)  # the file has minus the forces
    np.testing.assert_allclose(frames[0].stress, DERIVATIVE / 120.0)
    assert frames[1].stress is None
    assert "dE/dstrain" in said


def test_a_step_at_the_limit_of_its_iterations_is_named(tmp_path: Path) -> None:
    _, said = read_with_notes(file(tmp_path, step() + step(scf=100), "MOVEMENT"))
    assert "#1: SCF = 100" in said


def test_configuration_without_labels(tmp_path: Path) -> None:
    text = step(stress=False).replace(step().splitlines()[0], "  2")
    text = "\n".join(
        line for line in text.splitlines() if "MD_INFO" not in line and "0.30000E+03" not in line
    )
    (only,) = read(file(tmp_path, text[: text.index(" Force")], "atom.config"))
    assert (only.energy, only.forces, only.stress) == (None, None, None)
    np.testing.assert_allclose(only.positions, FRACTIONS @ CELL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Etot,Ep,Ek", "Etot"), "line 1: the energies are not understood"),
        (("  14   0.00", "  15   0.00"), "x"),
        (("   2 atoms", "   3 atoms"), "not understood"),
        ((" Lattice vector", " Grid vector"), "no section Lattice"),
        (("     stress (eV):    1.2", "     stress (eV):    x 1.2"), "the stress is not understood"),
    ],
)
def test_damaged_movements(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = step()
    if message == "x":
        begin, end = text.split(" Force", 1)
        text, message = begin + " Force" + end.replace("  14", "  15", 1), "other elements"
    else:
        assert change[0] in text
        text = text.replace(*change)
    with pytest.raises(InputError, match=message):
        read(file(tmp_path, text, "MOVEMENT"), "pwmat")


def test_a_movement_that_is_cut_off(tmp_path: Path) -> None:
    text = step()
    with pytest.raises(InputError, match=r"MOVEMENT, line 12: .* ends after 1 of 2 lines.*truncated"):
        read(file(tmp_path, text[: text.index("  14", text.index(" Force"))], "MOVEMENT"))


def pwdata(folder: Path, n: int = 2, virials: bool = True) -> Path:
    folder.mkdir(parents=True)
    arrays = {
        "position": np.tile(FRACTIONS.ravel(), (n, 1)), "lattice": np.tile(CELL.ravel(), (n, 1)),
        "energies": -20.5 - np.arange(n)[:, None], "forces": np.tile(FORCES.ravel(), (n, 1)),
        "image_type": np.array([[3, 14]]), "atom_type": np.array([[3, 14]]), "ei": np.zeros((n, 2)),
    }  # fmt: skip
    if virials:
        arrays["virials"] = np.tile(-DERIVATIVE.ravel(), (n, 1))
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_pwmlff_folders(tmp_path: Path) -> None:
    pwdata(tmp_path / "PWdata" / "LiSi" / "train")
    pwdata(tmp_path / "PWdata" / "LiSi" / "valid", n=1, virials=False)
    frames, said = read_with_notes(tmp_path / "PWdata")
    assert [frame.energy for frame in frames] == [-20.5, -21.5, -20.5]
    assert "train and valid are read together" in said
    np.testing.assert_allclose(frames[1].positions, FRACTIONS @ CELL)
    np.testing.assert_allclose(frames[1].forces, FORCES)
    np.testing.assert_allclose(frames[1].stress, DERIVATIVE / 120.0)
    assert frames[2].stress is None


def test_damaged_pwmlff_folders(tmp_path: Path) -> None:
    folder = pwdata(tmp_path / "a")
    np.save(folder / "forces.npy", np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"forces.npy has shape \(2, 3\); expected \(2, 6\)"):
        read(folder)
    np.save(pwdata(tmp_path / "b") / "image_type.npy", np.array([[3, 0]]))
    with pytest.raises(InputError, match="no element"):
        read(tmp_path / "b")
