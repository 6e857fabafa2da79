"""Equation of state and elastic constants of crystals, against closed forms and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from nnpkit.analysis.solids import (
    EquationOfState,
    conventional,
    crystals,
    elastic_constants,
    equation_of_state,
)
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError


def crystal(*arguments, **options) -> Structure:
    atoms = bulk(*arguments, **options)
    return Structure(list(atoms.symbols), atoms.positions, atoms.cell.array, atoms.pbc, name="crystal")


class Birch:
    """A calculator whose energies are a Birch-Murnaghan equation of state."""

    def __init__(self, state: EquationOfState) -> None:
        self.state = state

    def get_potential_energy(self, atoms, force_consistent=False) -> float:
        return float(self.state(atoms.get_volume() / len(atoms))) * len(atoms)


def test_an_equation_of_state_is_found_again() -> None:
    true = EquationOfState(np.zeros(0), np.zeros(0), 11.8, -3.5, 140.0, 4.9, 0.0)
    found = equation_of_state(crystal("Cu", a=3.5), Birch(true))
    assert found.volume == pytest.approx(11.8, rel=1e-7)
    assert found.energy == pytest.approx(-3.5, abs=1e-9)
    assert found.bulk_modulus == pytest.approx(140.0, rel=1e-6)
    assert found.derivative == pytest.approx(4.9, rel=1e-4)
    np.testing.assert_allclose(found(found.volumes), found.energies, atol=1e-9)


def test_copper_in_effective_medium_theory() -> None:
    """Bulk moduli by energies and by stresses agree; the crystal is cubic and stable."""
    copper = crystal("Cu", a=3.7)
    state = equation_of_state(copper, EMT())
    elastic = elastic_constants(crystal("Cu", cubic=True, a=3.7), EMT(), state.volume)
    assert elastic.bulk_modulus == pytest.approx(state.bulk_modulus, rel=5e-3)
    c = elastic.constants
    assert elastic.stable
    np.testing.assert_allclose(np.diag(c)[:3], c[0, 0], rtol=1e-6)
    np.testing.assert_allclose(np.diag(c)[3:], c[3, 3], rtol=1e-6)
    np.testing.assert_allclose(c[:3, 3:], 0.0, atol=1e-6 * c[0, 0])
    shear = (c[0, 0] - c[0, 1] + 3 * c[3, 3]) / 5
    assert elastic.shear_modulus == pytest.approx(shear, rel=1e-6)
    assert elastic.asymmetry < 0.01


def test_pair_potentials_obey_cauchy() -> None:
    """C12 = C44 of a cubic crystal of central forces without stress, every atom a centre of inversion."""
    argon = crystal("Ar", "fcc", cubic=True, a=5.3)
    calculator = LennardJones(sigma=3.4, epsilon=0.0104, rc=8.0, ro=6.0, smooth=True)
    state = equation_of_state(argon, calculator)
    c = elastic_constants(argon, calculator, state.volume, strain=0.001).constants
    assert c[0, 1] == pytest.approx(c[3, 3], rel=2e-2)


def test_ions_relax() -> None:
    """Diamond: internal relaxation makes the shear softer, which a frozen cell does not show."""
    from ase.calculators.tersoff import Tersoff, TersoffParameters

    silicon = TersoffParameters(
        A=1830.8, B=471.18, lambda1=2.4799, lambda2=1.7322, lambda3=0.0, beta=1.1e-6, gamma=1.0, m=3.0, n=0.78734,
        c=100390.0, d=16.217, h=-0.59825, R=2.85, D=0.15,
    )  # fmt: skip
    calculator = Tersoff({("Si", "Si", "Si"): silicon})
    c = elastic_constants(crystal("Si", cubic=True, a=5.432), calculator).constants
    assert c[0, 0] == pytest.approx(142.5, rel=0.02)  # Tersoff, Phys. Rev. B 38, 9902 (1988): 143, 75, 69
    assert c[0, 1] == pytest.approx(75.4, rel=0.02)
    assert c[3, 3] == pytest.approx(69.0, rel=0.03)


def test_what_counts_as_a_crystal() -> None:
    still = crystal("Cu", cubic=True).replace(energy=-14.0, forces=np.zeros((4, 3)), name="still")
    worse = still.replace(energy=-13.9, name="worse")
    moving = still.replace(energy=-15.0, forces=np.full((4, 3), 0.2), name="moving")
    cluster = still.replace(energy=-15.0, pbc=np.zeros(3, bool), name="cluster")
    assert [s.name for s in crystals([worse, moving, still, cluster])] == ["still"]
    with pytest.raises(InputError, match="needs a crystal"):
        equation_of_state(cluster, EMT())
    with pytest.raises(InputError, match="need a crystal"):
        elastic_constants(cluster, EMT())


def test_a_supercell_in_odd_axes_becomes_the_conventional_cell() -> None:
    pytest.importorskip("spglib", reason="spglib is optional")
    atoms = bulk("Cu", a=3.6).repeat((3, 2, 2))
    atoms.rotate(25.0, "y", rotate_cell=True)
    odd = Structure(list(atoms.symbols), atoms.positions, atoms.cell.array, atoms.pbc, name="odd")
    found = conventional(odd)
    assert (found.n_atoms, found.name) == (4, "odd")
    np.testing.assert_allclose(found.cell, np.eye(3) * 3.6, atol=1e-6)
    assert found.volume / 4 == pytest.approx(odd.volume / odd.n_atoms)
