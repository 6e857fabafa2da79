"""The fitted repulsion in trainings: who has it, who keeps it, and what is said."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from alloy import make_training
from rich.console import Console
from test_charge_training import config as config_of_ions
from test_charge_training import ions

from nnpkit.config.config_file import load_config
from nnpkit.data.distances import close_pairs
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.families.prepare import predicted_energies
from nnpkit.models.fitted_charges import point_charges
from nnpkit.models.fitted_repulsion import is_fitted
from nnpkit.training.guard import silence
from nnpkit.workflow.training_run import run_training

SMALL = (
    "model={kind: cluster_expansion, descriptor: {radial_channels: 2, radial_basis: 4, angular_channels: 2, "
    "angular_basis: 3, invariants: [[1, 1]]}, network: {hidden: [3]}}"
)


EXPANSION = {
    "kind": "cluster_expansion", "network": {"hidden": [3]},
    "descriptor": {
        "radial_channels": 2, "radial_basis": 4, "angular_channels": 2, "angular_basis": 3, "invariants": [[1, 1]],
    },
}  # fmt: skip


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


def test_it_is_suggested_where_it_is_nearly_all_of_the_forces(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = "model={kind: acsf, descriptor: {cutoff: 4.0, zetas: [1], radial: 2}, network: {hidden: [2]}}"
    _, said = trained(config, "output=fitted", functions, "model.wall=fitted")
    share = re.search(r"it leaves ([\d.]+) %", said).group(1)
    hint, left = (
        f"(model.wall=fitted) it would leave {share} % of the mean square force",
        float(share) / 100.0,
    )
    for most, expected in ((1.1 * left, True), (0.9 * left, False)):
        monkeypatch.setattr("nnpkit.workflow.new_model._NEARLY_NOTHING", most)
        assert (hint in trained(config, f"output=most-{most}", functions)[1]) is expected
    monkeypatch.setattr("nnpkit.workflow.new_model._NEARLY_NOTHING", 1.0)
    assert hint not in trained(config, "output=on", functions, "model.wall=on")[1]


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


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_beside_charges_it_is_what_they_leave(tmp_path: Path, generation: str) -> None:
    """Ions: latent charges begin where forces say; labelled ones are taken from the forces before the fit."""
    charges = {"generation": generation, "screening": "off"}
    charges |= {"third": {"passes": 3}, "fourth": {"passes": 3, "widths": 0.3}, "latent": {}}[generation]
    made = config_of_ions(tmp_path, ions(20), charges, model=EXPANSION, training={"epochs": 1})
    run_training(made, console=Console(quiet=True))
    report = json.loads((tmp_path / "run" / "data.json").read_text())["descriptor"]["report"]
    model, said = load(tmp_path / "run"), "\n".join(report)
    spec = model.metadata["spec"]
    assert is_fitted(spec["wall"])
    left = float(re.search(r"of whose mean square both leave ([\d.]+) %", said).group(1)) / 100.0
    assert left < 0.2
    assert spec["energy_scale"] == pytest.approx(max(0.3, left**0.5), rel=0.05)
    begun = spec["charges"].get("begin")
    if generation != "latent":
        assert "beside labelled charges" in said
        assert begun is None
        return
    assert begun["Li"] == pytest.approx(0.8, abs=0.25)
    assert begun["F"] == pytest.approx(-begun["Li"])
    assert begun["Li"] > 0.0
    assert f"beginning at Li {begun['Li']:.2f} e, F {begun['F']:.2f} e" in said
    found = model.predict(ions(1, seed=9)[0]).charges
    assert found == pytest.approx([begun["Li"], begun["F"]] * 2, abs=0.3)


def salt() -> list[Structure]:
    """Displaced crystals of LiF: charges, and a repulsion of neighbours that is stronger."""
    rng, made = np.random.default_rng(2), []
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for k in range(12):
        frame = Structure(
            ["F" if n % 2 else "Li" for n in grid.sum(1)],
            2.1 * grid + rng.normal(0.0, 0.1, grid.shape), 4.2 * np.eye(3), np.ones(3, dtype=bool),
            energy=0.01 * k, name=f"frame {k}",
        )  # fmt: skip
        symbols, pairs = np.array(frame.symbols), close_pairs(frame, 2.9)
        unlike = symbols[pairs.first] != symbols[pairs.second]
        charges = np.where(symbols == "Li", 1.0, -1.0)
        forces = -charges[:, None] * np.einsum("ijk,j->ik", point_charges(frame).slope.numpy(), charges)
        push = (5.0 * np.exp(-2.2 * (pairs.distance - 2.1)) / pairs.distance * unlike)[:, None] * pairs.vector
        np.add.at(forces, pairs.second, push)
        np.add.at(forces, pairs.first, -push)
        made.append(frame.replace(forces=forces))
    return made


def test_between_ions_none_is_fitted_without_being_asked_for(tmp_path: Path) -> None:
    """What it would leave of their forces is what charges do."""
    walls = {}
    for wall in ("auto", "on", "fitted"):
        made = config_of_ions(
            tmp_path, salt(), None, model={**EXPANSION, "wall": wall}, training={"epochs": 1},
            output=str(tmp_path / wall),
        )  # fmt: skip
        run_training(made, console=Console(quiet=True))
        walls[wall] = load(tmp_path / wall).metadata["spec"]["wall"]
        report = "\n".join(json.loads((tmp_path / wall / "data.json").read_text())["descriptor"]["report"])
        assert ("not fitted to forces, as charges would take" in report) is (wall == "auto")
    assert is_fitted(walls["fitted"])
    assert walls["auto"] == walls["on"]
    assert set(walls["auto"]) == {"F-F", "F-Li", "Li-Li"}


def test_latent_charges_begin_where_forces_say_whatever_the_repulsion(tmp_path: Path) -> None:
    made = config_of_ions(tmp_path, ions(20), {"generation": "latent"}, training={"epochs": 1})
    assert made.model.wall == "off"
    run_training(made, console=Console(quiet=True))
    spec = load(tmp_path / "run").metadata["spec"]
    assert spec["wall"] == {}
    assert abs(spec["charges"]["begin"]["Li"]) == pytest.approx(0.8, abs=0.25)


def test_frames_with_forces_far_from_all_others_do_not_decide(config: Path) -> None:
    frames = [frame for frame in read("train.extxyz") if frame.n_atoms > 1]
    write("plain.extxyz", frames)
    close = frames[0].positions.copy()
    pair = close_pairs(frames[0], 4.0)
    nearest = int(np.argmin(pair.distance))
    close[pair.second[nearest]] -= 0.8 * pair.vector[nearest]
    pushed_frame = frames[0].replace(positions=close, forces=300.0 * frames[0].forces)
    write("pushed.extxyz", [*frames, pushed_frame])
    files = "data={{train: {}.extxyz, validation_fraction: 0.0, suspicious: ignore}}"
    plain = trained(config, "output=plain", files.format("plain"))[0]
    pushed = trained(config, "output=pushed", files.format("pushed"))[0]
    assert pushed.keys() == plain.keys()
    for pair, row in plain.items():
        np.testing.assert_allclose(pushed[pair], row)
    scales = [load(f"{name}/model.pt").metadata["spec"]["energy_scale"] for name in ("plain", "pushed")]
    assert scales[0] == pytest.approx(scales[1])
