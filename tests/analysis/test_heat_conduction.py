"""Thermal conductivity from a heat flux whose memory is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from nnpkit.analysis.properties.heat_conduction import conductivity
from nnpkit.errors import InputError

INTERVAL, TAU, VOLUME, TEMPERATURE, SIZE = 0.004, 0.15, 2000.0, 300.0, 5.0


def noise(seed: int, samples: int = 20000) -> tuple[np.ndarray, float]:
    """A flux with <J J> = s^2 exp(-t/tau) in each direction, and its conductivity, the sum over discrete times."""
    decay = np.exp(-INTERVAL / TAU)
    steps = np.random.default_rng(seed).normal(size=(samples, 3))
    flux = lfilter([np.sqrt(1 - decay**2)], [1.0, -decay], steps, axis=0) * SIZE
    integral = SIZE**2 * INTERVAL / 2.0 * (1.0 + decay) / (1.0 - decay)
    return flux, 1602.176634 / (VOLUME * 8.617333262e-5 * TEMPERATURE**2) * integral


def test_noise_of_known_memory_has_its_conductivity() -> None:
    """Errors are those that 40 such runs have."""
    off, errors = [], []
    for seed in range(40):
        flux, exact = noise(seed)
        found = conductivity(flux, INTERVAL, VOLUME, TEMPERATURE)
        errors.append(found.error / exact)
        off.append((found.value - exact) / found.error)
    assert 0.0 < np.median(errors) < 0.2
    assert abs(np.mean(off)) < 0.7
    assert 0.6 < np.std(off) < 1.5


def test_how_energy_is_divided_between_elements_does_not_matter() -> None:
    flux, exact = noise(3)
    steps = np.random.default_rng(9).normal(size=(len(flux) + 1, 2, 3))
    places = lfilter([1.0], [1.0, -np.exp(-INTERVAL / 2.0)], steps, axis=0)
    currents = np.diff(places, axis=0)  # elements that swing for picoseconds and go nowhere
    plain = conductivity(flux, INTERVAL, VOLUME, TEMPERATURE)
    moved = flux + 300.0 * currents[:, 0] - 70.0 * currents[:, 1]
    found = conductivity(moved, INTERVAL, VOLUME, TEMPERATURE, currents)
    assert found.value == pytest.approx(plain.value, rel=0.05)
    assert abs(found.value - exact) < 3.5 * found.error
    assert found.several
    assert not plain.several


def test_too_little_of_it() -> None:
    flux, _ = noise(1, 999)
    with pytest.raises(InputError, match="999 samples of the heat flux are too few"):
        conductivity(flux, INTERVAL, VOLUME, TEMPERATURE)
    with pytest.raises(InputError, match="the heat flux is zero"):
        conductivity(np.zeros((2000, 3)), INTERVAL, VOLUME, TEMPERATURE)
