"""`examples/ipi/run.py`: classical and path-integral water with i-PI, from end to end."""

from __future__ import annotations

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from engine_tools import need, write_model
from small_models import cluster

from nnpkit.data.formats.reading import write
from nnpkit.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "ipi" / "run.py"


@pytest.fixture
def example() -> ModuleType:
    """The script as a module."""
    need("ipi", "ipi")
    spec = spec_from_file_location("ipi_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(example: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    """The script's `main` with a small model and a cell that i-PI leaves as it is."""
    write_model(folder)
    structure = cluster(9).replace(cell=np.diag([9.0, 9.5, 10.0]), pbc=np.full(3, True))
    write(
        folder / "start.xyz", [structure.replace(energy=None, forces=None, stress=None, info={}, arrays={})]
    )
    words = [str(folder / "model.pt"), str(folder / "start.xyz"), "-o", str(folder / "out"), *more]
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    assert example.main() == 0


def test_both_runs_end_with_a_picture_and_numbers(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = ("--beads", "2", "--steps", "8", "--stride", "2", "--timestep", "0.1", "--temperature", "50")
    run(example, tmp_path, monkeypatch, *steps)
    last = capfd.readouterr().out.strip().splitlines()[-1]
    result = json.loads(last.removeprefix("RESULT "))
    assert result["classical"]["beads"] == 1
    assert result["quantum"]["beads"] == 2
    assert result["quantum"]["frames"] == 2 * result["classical"]["frames"] > 0
    assert (tmp_path / "out" / "rdf.png").stat().st_size > 5000
    # of one bead the centroid virial's kinetic energy is that of the temperature
    assert result["classical"]["kinetic_kelvin"] == pytest.approx(50.0, rel=1e-3)
    beads = [
        len(list((tmp_path / "out" / name).glob("run.positions_*"))) for name in ("classical", "quantum")
    ]
    assert beads == [1, 2]


def test_constant_pressure_changes_the_volume(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("--beads", "2", "--steps", "8", "--stride", "2", "--timestep", "0.1", "--temperature", "50")
    run(example, tmp_path, monkeypatch, *steps, "--pressure", "1")
    for name in ("classical", "quantum"):
        assert np.ptp(example.table(tmp_path / "out" / name)[:, 5]) > 0.0


def test_a_driver_that_ends_is_said(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(InputError, match="the run ended after") as raised:
        example.simulate(
            tmp_path / "model.pt", cluster(9).replace(cell=np.eye(3) * 9.0, pbc=np.full(3, True)),
            tmp_path / "run", beads=1, steps=4, stride=1, timestep=0.5, temperature=300.0, ensemble="nvt",
            barostat="", pressure="",
        )  # fmt: skip
    assert "model.pt" in str(raised.value)
