"""Melting by coexistence: how the search goes, with simulations that only say where they end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from nnpkit.analysis.properties.crystal_order import CrystalOrder
from nnpkit.analysis.properties.melting import melting
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo

MODEL: Any = SimpleNamespace(n_members=1, metadata={})
START = Structure.from_atoms(bulk("Cu", "fcc", a=3.6, cubic=True).repeat((3, 3, 5)), "copper")
STEPS = Simulation(timestep=1.0, steps=8000)
MELTS = 1000.0  # K


def with_melt(crystal: Structure, part: float) -> Structure:
    """The crystal with its atoms in the upper part along z anywhere there."""
    scaled = np.linalg.solve(crystal.cell.T, crystal.positions.T).T
    melt = scaled[:, 2] >= 1.0 - part
    places = np.random.default_rng(1).random((int(melt.sum()), 3))
    scaled[melt] = places * [1.0, 1.0, part] + [0.0, 0.0, 1.0 - part]
    return crystal.replace(positions=scaled @ crystal.cell, arrays={})


@dataclass
class Simulated:
    """In the place of simulations: those at constant enthalpy come to `MELTS` in `relaxation` of their length."""

    relaxation: float = 0.01
    capacity: float = 500.0  # K, farther from the melting point one of crystal and melt is used up
    hottest: float = 1e9  # K, at which a crystal lasts
    melted: float = 0.5  # of the cell, after half of it was heated
    short: float = 0.0  # of the way to the melting point that is left at last
    stable: float = 1e9  # K, above which no simulation is, but the hot one
    done: list[tuple[str, Simulation]] = field(default_factory=list)

    def __call__(
        self, model: Any, start: Structure, folder: Path, how: Simulation, *_: Any
    ) -> dict[str, Any]:
        self.done.append((folder.name, how))
        kind = folder.name.split("-", 2)[2]
        noise = np.random.default_rng(len(self.done)).normal(0.0, 4.0, 800)
        temperatures, end = how.temperature + noise, start
        if kind == "crystal" and how.temperature > self.hottest:
            end = with_melt(start, 1.0)
        elif kind == "hot":
            end = with_melt(start, self.melted)
        elif kind.startswith("both"):
            away = how.temperature - MELTS
            left = np.exp(-np.linspace(0.0, 1.0, 800) / self.relaxation)
            temperatures = temperatures - away * (1.0 - self.short) * (1.0 - left)
            if abs(away) > self.capacity:
                whole = START.to_atoms().repeat((1, 1, 2))
                end = with_melt(Structure.from_atoms(whole, "end"), 0.0 if away < 0.0 else 1.0)
        folder.mkdir(parents=True)
        write(folder / "final.extxyz", [end])
        Thermo({"time_ps": np.arange(800.0), "temperature_K": temperatures}).write_csv(folder / "thermo.csv")
        unstable = "it explodes" if kind != "hot" and how.temperature > self.stable else None
        return {"unstable": unstable, "outside": "beyond its data" if kind in ("hot", "both") else None}


def search(
    monkeypatch: pytest.MonkeyPatch, folder: Path, simulated: Simulated, low: float, high: float,
    settings: Simulation = STEPS,
) -> Any:  # fmt: skip
    def run(model, start, place, settings, ranks, overwrite, on_row=None):
        return simulated(model, start, place, settings)

    monkeypatch.setattr("nnpkit.analysis.properties.thermal.simulate", run)
    return melting(MODEL, START, folder, settings, (low, high))


def test_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun above and below it is found from both; crystal and melt are joined for three times of the barostat."""
    simulated = Simulated()
    found = search(monkeypatch, tmp_path, simulated, 900.0, 1140.0)
    assert found.temperature == pytest.approx(MELTS, abs=1.5)
    assert 0.0 < found.error < 1.5
    assert [run.start for run in found.runs] == [1020.0, pytest.approx(970.0, abs=1.0)]
    assert [run.share for run in found.runs] == [pytest.approx(0.5, abs=0.1)] * 2
    kinds = {name.split("-", 2)[2]: how for name, how in simulated.done}
    assert {kind: how.steps for kind, how in kinds.items()} == {
        "crystal": 2000, "hot": 2000, "beside": 2000, "both": 8000,
    }  # fmt: skip
    assert kinds["hot"].temperature == 2280.0
    assert kinds["hot"].temperature_end == kinds["crystal"].temperature
    assert kinds["both"].tdamp > 1e6 * kinds["beside"].tdamp
    assert found.notes[0].startswith("360 atoms: the error is not that of the size of the cell")
    assert found.notes[1:] == [f"both at {run.start:.0f} K: beyond its data" for run in found.runs]


def test_joined_no_longer_than_the_barostat_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run at constant temperature would use up crystal or melt of a small cell."""
    simulated = Simulated()
    search(monkeypatch, tmp_path, simulated, 900.0, 1140.0, Simulation(timestep=2.0, steps=80000))
    assert {how.steps for name, how in simulated.done if name.endswith("beside")} == {1500}


def test_the_range_is_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1800 K is too hot and 1050 K not; no crystal lasts at 1800 K in the second search."""
    for name, simulated in (("hot", Simulated()), ("gone", Simulated(hottest=1700.0))):
        found = search(monkeypatch, tmp_path / name, simulated, 300.0, 3300.0)
        assert [run.start for run in found.runs] == [1050.0, pytest.approx(950.0, abs=3.0)]
        assert found.temperature == pytest.approx(MELTS, abs=1.5)


def test_what_has_not_settled_goes_on_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(relaxation=2.0)
    found = search(monkeypatch, tmp_path, simulated, 900.0, 1500.0)
    both = [name.split("-", 2)[2] for name, _ in simulated.done if "both" in name]
    assert both[:4] == ["both", "both-2", "both-3", "both-4"]
    assert [run.why is None for run in found.runs].count(False)
    assert any("the temperature: " in note and "take more --steps" in note for note in found.notes)
    assert found.error > 3.0


def test_two_sides_that_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays where it begins has settled, and is wrong: both go on, for a while."""
    simulated = Simulated(short=0.9)
    found = search(monkeypatch, tmp_path, simulated, 900.0, 1240.0)
    assert [run.parts for run in found.runs] == [4, 4]
    assert found.temperature == pytest.approx(np.mean([run.mean for run in found.runs]))
    assert found.error == pytest.approx(abs(np.diff([run.mean for run in found.runs])[0]) / 2.0)
    assert found.error > 5.0
    assert "crystal and melt grow slowly" in found.notes[-1]
    near = search(monkeypatch, tmp_path / "near", Simulated(short=0.1), 900.0, 1240.0)
    assert near.runs[0].parts > 1
    assert near.temperature == pytest.approx(MELTS, abs=2.0)
    assert "grow slowly" not in " ".join(near.notes)


def test_one_side_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 K below what was found only crystal is left, and 15 K below, too, or not; nobody knows more than this."""
    near = search(monkeypatch, tmp_path / "near", Simulated(capacity=20.0), 900.0, 1110.0)
    assert [run.start for run in near.runs] == [1005.0, pytest.approx(985.0, abs=1.0)]
    found = search(monkeypatch, tmp_path / "one", Simulated(capacity=8.0), 900.0, 1110.0)
    assert len(found.runs) == 1
    assert "not both were left; one side only" in found.notes[-1]
    assert found.temperature == pytest.approx(MELTS, abs=1.0)
    assert found.error == pytest.approx(15.0, abs=1.0)


def test_the_other_side_is_not_stable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = search(monkeypatch, tmp_path, Simulated(stable=1005.0), 900.0, 1090.0)
    assert len(found.runs) == 1
    assert "the simulation is not stable: it explodes; one side only" in found.notes[-1]
    with pytest.raises(InputError, match="not stable"):
        search(monkeypatch, tmp_path / "none", Simulated(stable=800.0), 900.0, 1090.0)


def test_where_nothing_keeps_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is that of a crystal and a melt whose temperatures are known, not of the bracket."""
    found = search(monkeypatch, tmp_path, Simulated(capacity=0.0, short=-4.0), 800.0, 1250.0)
    assert found.temperature == pytest.approx(MELTS, rel=0.01)
    assert sorted(run.share for run in found.runs) == [0.0, 1.0]
    ends = [run.mean for run in found.runs]
    assert found.error == pytest.approx(abs(ends[0] - ends[1]) / 2.0)
    assert "no run kept crystal and melt" in found.notes[-1]


@pytest.mark.parametrize(
    ("simulated", "between", "message"),
    [
        (Simulated(capacity=10.0), (300.0, 700.0), "melt freezes at 69[0-9] K, at the end of the range"),
        (Simulated(capacity=10.0), (1200.0, 1500.0), "does not last at 120[0-9] K, at the end"),
        (Simulated(hottest=500.0), (600.0, 900.0), "does not last at 60[0-9] K, at the end"),
        (Simulated(melted=0.1), (900.0, 1100.0), "in 2000 steps at 2200 K half of the crystal did not melt"),
    ],
)  # fmt: skip
def test_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulated: Simulated, between: tuple[float, float], message: str
) -> None:  # fmt: skip
    with pytest.raises(InputError, match=message):
        search(monkeypatch, tmp_path, simulated, *between)


def test_other_angles_are_refused(tmp_path: Path) -> None:
    primitive = Structure.from_atoms(bulk("Cu", "fcc", a=3.6).repeat(4), "copper")
    with pytest.raises(InputError, match="right angles"):
        melting(MODEL, primitive, tmp_path, STEPS, (900.0, 1100.0))


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 1.0])
def test_share_of_crystal(part: float) -> None:
    crystal = Structure.from_atoms(bulk("Cu", "fcc", a=3.6, cubic=True).repeat((3, 3, 20)), "copper")
    order, shaken = CrystalOrder(crystal, 2), rattled(crystal)
    order.learn(shaken)
    assert order.share(with_melt(shaken, part)) == pytest.approx(1.0 - part, abs=0.06)


@pytest.mark.parametrize("repeat", [(10, 5, 4), (6, 3, 3), (8, 4, 4), (12, 6, 6)])
@pytest.mark.parametrize("edge", [3.6, 3.63])
def test_slabs_of_one_plane(repeat: tuple[int, int, int], edge: float) -> None:
    """Atoms leave them as they vibrate, and are still crystal."""
    crystal = Structure.from_atoms(bulk("Cu", "fcc", a=edge, cubic=True).repeat(repeat), "copper")
    assert CrystalOrder(crystal, 0).share(rattled(crystal)) == 1.0


def rattled(crystal: Structure) -> Structure:
    atoms = crystal.to_atoms()
    atoms.rattle(0.15, seed=3)
    return Structure.from_atoms(atoms, "rattled")
