"""LAMMPS gives the energies, forces and virials of an independent reference: ranks, cells, units, boundaries."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from harness import NINE, SIX, Measured, measure, random_structure
from toy import Reference

TRICLINIC = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]


@cache
def reference(name: str) -> Reference:
    """Structures by name; the reference values of each are computed once."""
    structures = {
        "triclinic": lambda: random_structure(40, TRICLINIC, seed=1),
        "box": lambda: random_structure(36, [8.3, 9.1, 8.7], seed=2),
        "corner": lambda: random_structure(14, [8.0, 8.0, 40.0], seed=3, fill=(1, 1, 0.2)),
        "slab": lambda: random_structure(30, [8.0, 9.0, 8.5], seed=4, pbc=(True, False, False)),
        "cluster": lambda: random_structure(16, [9.0, 9.0, 9.0], seed=5, pbc=False),
        "small": lambda: Atoms(
            "OH", [[0.1, 0.2, 0.3], [1.3, 1.0, 1.4]], cell=np.diag([2.6, 2.7, 3.1]), pbc=True
        ),
        "sparse": lambda: Atoms(
            "OHO", [[1, 1, 1], [6, 6, 6], [11, 11, 11.0]], cell=np.diag([16.0] * 3), pbc=True
        ),
    }
    return Reference(structures[name]())


@cache
def forces(name: str) -> np.ndarray:
    return reference(name).forces


def components(tensor: np.ndarray, order: list[tuple[int, int]]) -> np.ndarray:
    return np.stack([tensor[..., a, b] for a, b in order], axis=-1)


def check(found: Measured, name: str) -> None:
    """Everything LAMMPS reports against the reference."""
    expected = reference(name)
    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found.forces, forces(name), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=1e-12)
    virial = components(expected.virial, SIX)
    np.testing.assert_allclose(found.virial, virial, rtol=0, atol=1e-12 * max(1.0, abs(virial).max()))
    np.testing.assert_allclose(found.virials, components(expected.atomic_virials, SIX), rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        found.centroid_virials.sum(0), components(expected.virial, NINE), rtol=0, atol=1e-11
    )


@pytest.mark.parametrize(
    ("name", "ranks", "options", "settings"),
    [
        ("triclinic", 1, "", {}),
        ("triclinic", 2, "chunk 7", {}),
        ("triclinic", 4, "chunk 0", {"units": "real"}),
        ("box", 1, "chunk 1", {"units": "real"}),
        ("box", 2, "omp 2", {}),
        ("corner", 4, "", {"processors": "1 1 4"}),  # two ranks without atoms
        ("corner", 2, "", {"processors": "1 1 2", "units": "real"}),  # one
        ("slab", 2, "", {"boundary": "p f s"}),
        ("cluster", 2, "", {"boundary": "s f s"}),
        ("small", 1, "", {}),  # the cell is smaller than the cutoff: an atom sees its own images
        ("sparse", 1, "", {}),  # nobody sees anybody
    ],
)
def test_single_point(folder: Path, name: str, ranks: int, options: str, settings: dict[str, str]) -> None:
    check(measure(folder, reference(name).atoms, ranks, options, **settings), name)


def test_reference_stress_by_finite_differences() -> None:
    """The judge itself: complex steps against central differences of the energy in the strain."""
    expected = reference("triclinic")
    scale = abs(expected.virial).max()
    np.testing.assert_allclose(
        expected.virial_by_finite_differences(), expected.virial, rtol=0, atol=1e-9 * scale
    )
    np.testing.assert_allclose(expected.virial, expected.virial.T, rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("name", ["box", "triclinic"])
def test_pressure_is_the_strain_derivative_of_the_energy(folder: Path, name: str) -> None:
    """LAMMPS against LAMMPS: every component of the pressure from energies of strained cells."""
    from harness import lmp, potential, setup, write_data

    atoms, step = reference(name).atoms, 2e-4
    strains = [None] + [(c, k) for c in SIX for k in (-2, -1, 1, 2)]
    text = ""
    for index, strain in enumerate(strains):
        deform = np.eye(3)
        if strain:
            # Strain below the diagonal keeps LAMMPS' form of the cell; the virial is symmetric.
            (a, b), k = strain
            deform[a, b] += k * step
        strained = atoms.copy()
        strained.set_cell(atoms.cell[:] @ deform.T, scale_atoms=True)
        write_data(folder / f"data{index}.lmp", strained)
        text += "clear\n" + setup(data=f"data{index}.lmp") + potential()
        text += f"run 0\nprint '@e{index} $(pe:%.17g)'\n"
    energies = lmp(folder, text).values()
    found = measure(folder, atoms, 2)
    for c in SIX:
        e = {k: energies[f"e{strains.index((c, k))}"] for k in (-2, -1, 1, 2)}
        derivative = (8.0 * (e[1] - e[-1]) - (e[2] - e[-2])) / (12.0 * step)
        scale = abs(found.virial).max()
        assert found.virial[SIX.index(c)] == pytest.approx(-derivative, abs=1e-9 * scale), c


def test_centroid_virial_is_the_share_of_the_neighbor(folder: Path) -> None:
    """``W_j = -sum_i r_ij (x) dE_i/dx_j``, which makes sum_j W_j v_j the exact heat flux."""
    expected = reference("cluster")
    x, n = expected.atoms.positions, len(expected.atoms)
    virials = np.zeros((n, 3, 3))
    for j, b in np.ndindex(n, 3):
        moved = x.astype(complex)
        moved[j, b] += 1j * expected.STEP
        slopes = expected.atomic_energies(moved, expected.atoms.cell[:]).imag / expected.STEP
        virials[j, :, b] = -((x[j] - x) * slopes[:, None]).sum(0)
    found = measure(folder, expected.atoms, 2, boundary="f f f")
    np.testing.assert_allclose(found.centroid_virials, components(virials, NINE), rtol=0, atol=1e-12)


def test_single_precision_is_close_and_says_so(folder: Path) -> None:
    found, expected = measure(folder, reference("box").atoms, 1, "precision float32"), reference("box")
    assert found.energy == pytest.approx(expected.energy, rel=1e-5)
    assert found.energy != pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found.forces, forces("box"), rtol=0, atol=1e-4)
