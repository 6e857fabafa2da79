"""Properties of crystals and liquids against closed forms: bonds counted, random walks, noise of known memory."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from nnpkit.analysis.properties.defects import compression, miller, relaxed, surface_energies, vacancies
from nnpkit.analysis.properties.interstitials import holes, interstitials
from nnpkit.analysis.properties.stacking import require_fcc, stacking_fault
from nnpkit.analysis.properties.transport import diffusion, finite_size, vibrations, viscosity
from nnpkit.analysis.solids import elastic_constants, equation_of_state
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

SIGMA, EPSILON = 2.5, 0.4
NEAREST = 2.0 ** (1.0 / 6.0) * SIGMA
EDGE = NEAREST * np.sqrt(2.0)


def bonds() -> LennardJones:
    """Bonds between nearest neighbours alone: their number is all that energies know."""
    return LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=1.25 * NEAREST)


def bond(distance: float, reach: float = 1.25) -> float:
    """eV of a bond of that length (Å); ASE shifts the energy to zero at the cutoff."""
    x, y = (SIGMA / distance) ** 6, (SIGMA / reach / NEAREST) ** 6
    return 4.0 * EPSILON * (x**2 - x - y**2 + y)


def depth() -> float:
    """eV of one such bond between nearest neighbours."""
    return -bond(NEAREST)


def crystal(a: float = EDGE, symbol: str = "Cu") -> Structure:
    return Structure.from_atoms(bulk(symbol, "fcc", a=a, cubic=True), "fcc")


def test_a_vacancy_costs_the_bonds_it_breaks() -> None:
    """Twelve bonds break, and the atom that was taken out makes six elsewhere."""
    (found,) = vacancies(crystal(), bonds())
    assert found.element == "Cu"
    assert found.unrelaxed == pytest.approx(6.0 * depth(), rel=1e-9)
    assert found.energy == pytest.approx(6.0 * depth(), rel=1e-5)
    assert found.n_atoms == 4 * 3**3


def test_interstitials_cost_the_bonds_they_make() -> None:
    """Before it relaxes an octahedral one has bonds to 6 and 8 atoms, a tetrahedral one to 4 and 12."""
    found = {one.kind: one for one in interstitials(crystal(), bonds(), extent=9.0)}
    left = 6.0 * depth()  # of the atom, where it comes from
    octahedral = 6 * bond(EDGE / 2) + 8 * bond(np.sqrt(3) / 2 * EDGE) + left
    tetrahedral = 4 * bond(np.sqrt(3) / 4 * EDGE) + 12 * bond(np.sqrt(11) / 4 * EDGE) + left
    exact = {"0.5": octahedral, "0.25": tetrahedral, "0.75": tetrahedral}
    in_holes = [one for kind, one in found.items() if kind.startswith("hole")]
    assert len(in_holes) == 2
    for one in in_holes:
        words = one.kind.split()
        coordinates = [w for w in words[2:] if w != "0"]
        assert one.unrelaxed == pytest.approx(exact[coordinates[0]], rel=1e-6)
        assert one.energy < one.unrelaxed / 5.0
        assert 0.1 < one.moved < 1.5
    # the dumbbell along an edge is the stable one of fcc crystals
    assert next(iter(found)) == "dumbbell 100"
    assert found["dumbbell 100"].n_atoms == 4 * 3**3


def test_holes_of_a_cubic_body() -> None:
    """Voronoi cells of a bcc crystal meet in tetrahedral holes alone, at a half and a quarter of the edge."""
    (only,) = holes(Structure.from_atoms(bulk("Fe", "bcc", a=2.9, cubic=True)))
    assert sorted(np.minimum(only, 1.0 - only)) == pytest.approx([0.0, 0.25, 0.5], abs=1e-6)


def test_a_stacking_fault_makes_the_bonds_it_makes() -> None:
    """With a reach between 1.63 and 1.73 distances, it makes two bonds of 1.63, one for each plane beside it."""
    reach = 1.68
    calculator = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=reach * NEAREST)
    rest = relaxed(crystal(), calculator)
    nearest = require_fcc(rest) / np.sqrt(2.0)
    found = stacking_fault(rest, calculator, layers=9, points=5)
    exact = 2.0 * bond(np.sqrt(8.0 / 3.0) * nearest, reach) / (np.sqrt(3.0) / 2.0 * nearest**2) * 16021.76634
    assert found.unrelaxed[-1] == pytest.approx(exact, rel=1e-6)
    assert found.intrinsic == pytest.approx(exact, rel=0.1)
    assert found.intrinsic <= found.unrelaxed[-1]
    assert found.energies[0] == 0.0
    assert found.unstable == found.energies[2] > 100.0
    with pytest.raises(InputError, match="one of an fcc crystal"):
        require_fcc(Structure.from_atoms(bulk("Fe", "bcc", a=2.9)))
    with pytest.raises(InputError, match="one of an fcc crystal"):
        require_fcc(Structure.from_atoms(bulk("Mg", "hcp", a=3.2, c=3.2 * np.sqrt(8.0 / 3.0))))


def test_surfaces_cost_the_bonds_they_break() -> None:
    """Three of twelve bonds of an atom at (111), four at (100), and at (110) five of one row and one of the next."""
    found = {
        s.miller: s for s in surface_energies(crystal(), bonds(), ["111", "100", "1 1 0"], thickness=8.0)
    }
    for name, broken, area in (
        ("111", 3.0, np.sqrt(3.0) / 4.0 * EDGE**2), ("100", 4.0, EDGE**2 / 2.0), ("1 1 0", 6.0, EDGE**2 / np.sqrt(2.0)),
    ):  # fmt: skip
        exact = broken / 2.0 * depth() / area * 16.02176634
        assert found[name].unrelaxed == pytest.approx(exact, rel=1e-6)
        assert found[name].energy == pytest.approx(exact, rel=1e-3)


def test_relaxation_finds_the_nearest_neighbours() -> None:
    found = relaxed(crystal(1.03 * EDGE), bonds())
    assert (found.volume / 4) ** (1 / 3) == pytest.approx(EDGE / 4 ** (1 / 3), rel=1e-4)


def test_compression_follows_the_pair_potential() -> None:
    """P(V) of a crystal of bonds is their force: P = -dE/dV with E = 6 phi(r)."""
    pressures = [0.0, 20.0, 60.0]
    found = compression(crystal(), bonds(), pressures)
    for pressure, volume in zip(pressures, found.volumes, strict=True):
        r = (np.sqrt(2.0) * volume) ** (1.0 / 3.0)
        s = SIGMA / r
        slope = 4.0 * EPSILON * (-12.0 * s**12 + 6.0 * s**6) / r
        assert -6.0 * slope * r / (3.0 * volume) * 160.21766 == pytest.approx(pressure, abs=0.02)
    # dH/dP = V
    slope = np.gradient(found.enthalpies, found.pressures)[1] * 160.21766
    assert slope == pytest.approx(found.volumes[1], rel=0.05)


def test_copper_in_effective_medium_theory() -> None:
    """Vacancy, surfaces and elastic constants of EMT copper agree with each other and with its literature.

    Jacobsen, Stoltze and Norskov, Surf. Sci. 366, 394 (1996): a = 3.59 Å, B = 134 GPa, C44 = 89 GPa... the vacancy
    costs about 1.3 eV, and (111) is the surface of least energy.
    """
    copper = relaxed(crystal(3.7), EMT())
    assert (copper.volume) ** (1 / 3) == pytest.approx(3.59, abs=0.01)
    state = equation_of_state(copper, EMT())
    elastic = elastic_constants(copper, EMT())
    assert state.bulk_modulus == pytest.approx(134.0, rel=0.03)
    assert elastic.constants[3, 3] == pytest.approx(89.0, rel=0.05)
    (found,) = vacancies(copper, EMT(), extent=7.0)
    assert found.energy < found.unrelaxed
    assert found.energy == pytest.approx(1.28, abs=0.1)
    surfaces = surface_energies(copper, EMT(), ["111", "100"], thickness=8.0)
    assert surfaces[0].energy < surfaces[1].energy


def test_a_random_walk_diffuses_as_it_should() -> None:
    """Two elements whose steps have known variance: D = <step^2> / (6 interval)."""
    rng = np.random.default_rng(4)
    symbols = ["Ar"] * 60 + ["Ne"] * 60
    steps = rng.normal(size=(3000, 120, 3)) * np.where(np.array(symbols) == "Ar", 0.1, 0.2)[:, None]
    found = diffusion(np.cumsum(steps, axis=0), symbols, interval=0.02)
    for got, size in zip(found, (0.1, 0.2), strict=True):
        exact = 3.0 * size**2 / (6.0 * 0.02) * 10.0
        assert 0.0 < got.error < 0.05 * exact
        assert abs(got.coefficient - exact) < 3.5 * got.error
    shifted = np.cumsum(steps, axis=0) + np.linspace(0.0, 50.0, 3000)[:, None, None]
    assert diffusion(shifted, symbols, 0.02)[0].coefficient == pytest.approx(found[0].coefficient, rel=1e-6)
    with pytest.raises(InputError, match="too few for diffusion"):
        diffusion(steps[:60], symbols, 0.02)


def test_atoms_that_only_vibrate_do_not_diffuse() -> None:
    rng = np.random.default_rng(4)
    found = diffusion(rng.normal(size=(600, 40, 3)) * 0.1, ["Cu"] * 40, 0.1)
    assert abs(found[0].coefficient) < 3.0 * found[0].error + 1e-4


def test_noise_of_known_memory_has_its_viscosity() -> None:
    """Components with <p p> = s^2 exp(-t/tau): the viscosity is V s^2 tau / kT."""
    rng = np.random.default_rng(2)
    n, interval, tau, volume, temperature, size = 60000, 0.01, 0.15, 2000.0, 300.0, 900.0
    decay = np.exp(-interval / tau)

    def series() -> np.ndarray:
        from scipy.signal import lfilter

        return lfilter([np.sqrt(1 - decay**2)], [1.0, -decay], rng.normal(size=n)) * size

    trace = series()
    parts = {name: series() for name in ("xy", "xz", "yz")}
    # (xx - yy)/2 and (yy - zz)/2 have the variance of xy if each of xx, yy, zz has twice that of it
    parts |= {name: trace + np.sqrt(2.0) * series() for name in ("xx", "yy", "zz")}
    found = viscosity(parts, interval, volume, temperature, longest=3.0)
    pascal = 1e5 * size
    exact = volume * 1e-30 * pascal**2 * tau * 1e-12 / (1.380649e-23 * temperature) * 1e3
    assert 0.0 < found.error < 0.1 * exact
    assert abs(found.value - exact) < 3.5 * found.error + 0.03 * exact
    assert 0.3 < found.cutoff < 1.5
    with pytest.raises(InputError, match="too few for a viscosity"):
        viscosity({k: v[:300] for k, v in parts.items()}, interval, volume, temperature)


def test_water_in_a_small_box() -> None:
    """Yeh and Hummer's correction for 64 molecules of water at room temperature is a few tenths."""
    assert finite_size(298.0, 0.85, 12.42**3) == pytest.approx(0.587, rel=0.01)


def test_oscillators_show_at_their_frequencies() -> None:
    """Each degree of freedom counts the same, whatever its mass."""
    time = np.arange(4000) * 0.002
    velocities = np.zeros((4000, 2, 3))
    phase = np.random.default_rng(0).uniform(0.0, 2 * np.pi, size=6).reshape(2, 3)
    for atom, (frequency, mass) in enumerate(((12.0, 40.0), (30.0, 1.0))):
        velocities[:, atom] = np.cos(2 * np.pi * frequency * time[:, None] + phase[atom]) / np.sqrt(mass)
    found = vibrations(velocities, ["Ar", "H"], np.array([40.0, 1.0]), 0.002)
    for element, frequency in (("Ar", 12.0), ("H", 30.0)):
        assert found.frequency[np.argmax(found.density[element])] == pytest.approx(frequency, abs=0.15)
        assert np.trapezoid(found.density[element], found.frequency) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("text", ["", "000", "11", "1 1", "1x1", "1111"])
def test_indices_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="three indices"):
        miller(text)


def test_mistakes_are_one_line() -> None:
    salt = Structure.from_atoms(bulk("NaCl", "rocksalt", a=5.6))
    with pytest.raises(InputError, match="a crystal of one element"):
        vacancies(salt, bonds())
    with pytest.raises(InputError, match="3 periodic directions"):
        relaxed(Structure(["Cu"], [[0.0, 0.0, 0.0]], np.eye(3), False, name="atom"), EMT())
