"""The fitted repulsion in trainings: who has it, who keeps it, and what is said."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from alloy import make_training
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import read, write
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.families.prepare import predicted_energies
from nnpkit.models.fitted_repulsion import is_fitted
from nnpkit.training.guard import silence
from nnpkit.workflow.training_run import run_training

SMALL = (
    "model={kind: cluster_expansion, descriptor: {radial_channels: 2, radial_basis: 4, angular_channels: 2, "
    "angular_basis: 3, invariants: [[1, 1]]}, network: {hidden: [3]}}"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def trained(config: Path, *overrides: str) -> tuple[dict, str]:
    """Repulsion of the potential, and what was printed."""
    console = Console(record=True, width=300, file=io.StringIO())
    settings = load_config(config, [SMALL, "training.epochs=1", *overrides])
    run_training(settings, console=console)
    return load(Path(settings.output) / "model.pt").metadata["spec"]["wall"], console.export_text()


def test_who_has_it(config: Path) -> None:
    wall, said = trained(config, "output=default")
    assert is_fitted(wall)
    assert "short-range repulsion, fitted to the forces, of whose mean square it leaves" in said
    left = float(re.search(r"it leaves ([\d.]+) %", said).group(1)) / 100.0
    assert 0.0 < left < 0.9
    assert load("default/model.pt").metadata["spec"]["energy_scale"] == pytest.approx(
        max(0.3, left**0.5), rel=0.05
    )
    assert not is_fitted(trained(config, "output=on", "model.wall=on")[0])
    assert load("on/model.pt").metadata["spec"]["energy_scale"] == 1.0
    assert trained(config, "output=off", "model.wall=off")[0] == {}
    given, _ = trained(config, "output=given", "model.wall={Cu-Cu: 1.5}")
    assert given == {"Cu-Cu": 1.5}
    functions = "model={kind: acsf, descriptor: {cutoff: 4.0, zetas: [1], radial: 2}, network: {hidden: [2]}}"
    assert not is_fitted(trained(config, "output=acsf", functions)[0])
    assert is_fitted(trained(config, "output=fitted", functions, "model.wall=fitted")[0])


def test_a_training_that_goes_on_keeps_it(config: Path) -> None:
    """Its networks have learnt the difference to this repulsion and no other."""
    first, _ = trained(config, "output=first")
    moved = [frame.replace(forces=2.0 * np.asarray(frame.forces)) for frame in read("train.extxyz")]
    write("other.extxyz", moved)
    fresh, _ = trained(config, "output=fresh", "data.train=other.extxyz")
    again, said = trained(config, "output=again", "data.train=other.extxyz", "start={run: first}")
    assert again == first != fresh
    assert "short-range repulsion is that of that potential" in said
    for other in ("off", "on", "{Cu-Cu: 1.5}"):
        with pytest.raises(InputError, match="difference to a fitted repulsion"):
            trained(config, "output=none", "start={run: first}", f"model.wall={other}")
    trained(config, "output=without", "model.wall=on")
    kept, _ = trained(config, "output=kept", "start={run: without}")
    assert not is_fitted(kept)
    with pytest.raises(InputError, match="without a fitted repulsion"):
        trained(config, "output=none", "start={run: without}", "model.wall=fitted")


def test_energies_alone_are_not_enough(config: Path) -> None:
    write("bare.extxyz", [frame.replace(forces=None, stress=None) for frame in read("train.extxyz")])
    bare = "data.train=bare.extxyz"
    assert not is_fitted(trained(config, "output=bare", bare)[0])
    with pytest.raises(InputError, match="no forces that a repulsion could be fitted to"):
        trained(config, "output=none", bare, "model.wall=fitted")
    assert not Path("none/model.pt").exists()


def test_networks_that_say_nothing_leave_the_energies_of_the_elements(config: Path) -> None:
    """The repulsion has energies of electronvolts, which no reference energy knows of."""
    trained(config, "output=default")
    loaded, frames = load("default/model.pt"), list(read("train.extxyz"))
    model = loaded.atomic_model()
    silence(model, frames)
    energies = [float(f.energy or 0.0) / f.n_atoms for f in frames]
    found = predicted_energies(model, frames) / [f.n_atoms for f in frames]
    assert np.mean(found) == pytest.approx(np.mean(energies), abs=0.05)
