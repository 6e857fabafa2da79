"""Phonons: against sound velocities from elastic constants, and what acoustic modes must do."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import atomic_masses

from nnpkit.analysis.solids import elastic_constants, equation_of_state
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

pytest.importorskip("phonopy", reason="phonopy is optional")


def copper(cubic: bool = False) -> Structure:
    atoms = bulk("Cu", cubic=cubic, a=3.6)
    return Structure(list(atoms.symbols), atoms.positions, atoms.cell.array, atoms.pbc, name="Cu")


def test_sound_is_as_fast_as_elastic_constants_say() -> None:
    from nnpkit.analysis.phonons import phonons

    volume = equation_of_state(copper(), EMT()).volume
    found = phonons(copper(), EMT(), volume)
    assert found.stable
    assert abs(found.lowest) < 1e-3
    zone_center = found.bands[int(np.argmin(np.abs(found.distance)))]
    np.testing.assert_allclose(zone_center, 0.0, atol=1e-3)
    assert found.density[-1] < found.density.max()
    names = [name for _, name in found.labels]
    assert names[:2] == ["G", "X"]
    c = elastic_constants(copper(cubic=True), EMT(), volume).constants / 160.21766208  # eV/Å³
    density = atomic_masses[29] / volume
    speed = np.sqrt(np.array([c[3, 3], c[3, 3], c[0, 0]]) / density) * 98.2269  # Å/ps from sqrt(eV/amu)
    near = 3  # points from the zone centre along [100]
    slope = found.bands[near] / (found.distance[near] - found.distance[0])  # 2 pi f = v k
    factor = slope / speed  # dispersion bends the branches down a little
    assert np.ptp(factor) < 0.03 * factor.mean()
    assert factor.mean() == pytest.approx(1 / (2 * np.pi), rel=0.03)


def test_a_cluster_has_none() -> None:
    from nnpkit.analysis.phonons import phonons

    with pytest.raises(InputError, match="need a crystal"):
        phonons(copper().replace(pbc=np.zeros(3, bool)), EMT())
