"""Members that a Kalman filter's posterior gives potentials with charges: in LAMMPS what they are in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from test_charge_training import CHEBYSHEV, ions
from test_lammps_charged_committee import OBSERVED
from test_lammps_charges import GENERATIONS, compare, run

import nnpkit
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.workflow.own_uncertainty import write_with_uncertainty


def water_like(n: int, seed: int = 1) -> list[Structure]:
    """Clusters of ions, called O and H, within a box."""
    return [s.replace(symbols=["O", "H"] * 2, positions=s.positions + 4.0) for s in ions(n, seed)]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_expected_errors_are_those_of_python(
    lammps: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write("ions.xyz", water_like(14))
    passes = {} if generation == "latent" else {"passes": 2}
    nnpkit.train(
        {
            "data": {"train": "ions.xyz", "validation_fraction": 0.3, "test_fraction": 0, "suspicious": "ignore"},
            "model": {**CHEBYSHEV, "charges": {"generation": generation, **passes}}, "training": {"epochs": 1},
        }
    )  # fmt: skip
    write_with_uncertainty("run", "model.pt", 4)
    model, frame = load("model.pt"), water_like(1, seed=9)[0]
    atoms = Atoms(frame.symbols, frame.positions, cell=[16.0] * 3)
    expected = model.predict(atoms).disagreement
    assert expected.forces_std.min() > 1e-3
    text = OBSERVED + "".join(f"print '@m{k} $(c_m[{k}]:%.17g)'\n" for k in range(6, 7))
    for ranks, options in ((1, "chunk 3"), (2, "kernel torchscript")):
        result = run(tmp_path, atoms, ranks, options, boundary="f f f", text=text)
        compare(result, model, atoms, periodic=False)
        values, table = result.values(), result.dump()
        assert [values[f"m{k}"] for k in range(1, 5)] == pytest.approx(expected.member_energy, rel=1e-10)
        assert values["m5"] == pytest.approx(expected.energy_std, rel=1e-6)
        assert values["m6"] == pytest.approx(expected.forces_std.max(), rel=1e-6)
        assert table[:, 15] == pytest.approx(expected.forces_std, rel=1e-6)
        assert table[:, 16] == pytest.approx(expected.charges_std, rel=1e-6, abs=1e-9)
    assert (np.max(expected.charges_std) > 1e-8) == (generation == "latent")
