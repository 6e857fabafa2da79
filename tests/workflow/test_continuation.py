"""Trainings that begin with another one: what is carried over, what follows the new data, what is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from alloy import CONFIG, write_alloy
from rich.console import Console

import nnpkit
from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import read, write
from nnpkit.errors import InputError
from nnpkit.families.prepare import predicted_energies
from nnpkit.training import trainer
from nnpkit.training.checkpoint import latest_checkpoint, model_from, read_checkpoint
from nnpkit.workflow.assemble import load_data, make_splits, make_update
from nnpkit.workflow.continuation import begin, earlier_checkpoint
from nnpkit.workflow.reference_energies import typical_shift
from nnpkit.workflow.training_run import run_training

MODEL = (
    "  descriptor: {cutoff: 6.0, angular_cutoff: 5.0, zetas: [1, 4], radial: 3}\n  network: {hidden: [4]}\n"
)
FIRST = CONFIG.replace("epochs: 4", "epochs: 3")
AGAIN = FIRST.replace("model:\n" + MODEL, "").replace("epochs: 3", "epochs: 0") + "start: {run: run}\n"
COMPOSITIONS = (1, 2, 3)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """Folder with data of several compositions and a run; the best epoch of the run is the second of three."""
    folder = tmp_path_factory.mktemp("start")
    write_alloy(folder / "train.extxyz", gold=COMPOSITIONS)
    (folder / "train.yaml").write_text(FIRST)
    (folder / "again.yaml").write_text(AGAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        worths = iter([0.04, 0.03, 0.01, 0.02])
        patch.setattr(trainer, "monitored", lambda *_: next(worths))
        nnpkit.train("train.yaml")
    return folder


@pytest.fixture(autouse=True)
def _in_its_folder(before, monkeypatch):
    monkeypatch.chdir(before)


def start(overrides: list[str] | None = None, config: str = "again.yaml"):
    """Summary and what was printed."""
    console = Console(record=True, width=300, quiet=False, file=open("log", "w"))  # noqa: SIM115
    summary = run_training(load_config(config, overrides or []), overwrite=True, console=console)
    return summary, console.export_text()


def shifted(by: dict[str, float], name: str) -> str:
    """Data whose labels are shifted by a constant per element."""
    frames = [
        s.replace(energy=s.energy + sum(by[e] * n for e, n in s.composition.items()))
        for s in read("train.extxyz")
    ]
    write(name, frames)
    return name


SHIFT = {"Cu": -637.25, "Au": 12.5}


def test_reference_energies_take_up_a_shift_of_the_labels() -> None:
    same, _ = start(["output=same"])
    other, said = start(["output=other", f"data.train={shifted(SHIFT, 'shifted.extxyz')}"])
    for part in ("train", "validation"):
        assert other[part]["energy_rmse"] == pytest.approx(same[part]["energy_rmse"], abs=1e-9)
        assert other[part]["force_rmse"] == pytest.approx(same[part]["force_rmse"], abs=1e-9)
    was, now = (
        json.loads((Path(f) / "data.json").read_text())["reference_energies"] for f in ("same", "other")
    )
    assert {e: now[e] - was[e] for e in was} == pytest.approx(SHIFT, abs=1e-6)
    assert "reference energies follow the labels: " in said


def test_given_reference_energies_are_respected() -> None:
    """As a shift of the labels where they are one; else the outputs make up for them."""
    same, _ = start(["output=same"])
    kept = json.loads((Path("same") / "data.json").read_text())["reference_energies"]
    moved = {e: kept[e] + SHIFT[e] for e in kept}
    file = shifted(SHIFT, "shifted.extxyz")
    for output, data, given in (
        ("a", "train.extxyz", moved),
        ("b", file, kept),
        ("c", file, moved),
        ("d", file, "none"),
    ):
        summary, _ = start(
            [f"output={output}", f"data.train={data}", f"data.reference_energies={json.dumps(given)}"]
        )
        assert summary["validation"]["energy_rmse"] == pytest.approx(
            same["validation"]["energy_rmse"], abs=1e-6
        ), output
        now = json.loads((Path(output) / "data.json").read_text())["reference_energies"]
        assert now == (dict.fromkeys(kept, 0.0) if given == "none" else given)
    plain, same_weights = (
        model_from(earlier_checkpoint(load_config("again.yaml").start)),
        nnpkit.load("c").atomic_model(),
    )
    torch.testing.assert_close(
        same_weights.networks.networks[0].layers[-1].bias, plain.networks.networks[0].layers[-1].bias
    )
    with pytest.raises(InputError, match="no reference energy for Au"):
        start(["data.reference_energies={Cu: 1.0}", "output=e"])


def test_one_bad_label_moves_no_reference_energy() -> None:
    """Least squares would move them by 4 eV."""
    frames = read("train.extxyz")
    residuals = 0.01 * np.random.default_rng(1).normal(size=len(frames))
    residuals[0] += 10.0
    moved = typical_shift(residuals, frames, ["Cu", "Au"])
    assert max(map(abs, moved.values())) < 0.02
    by = np.array([3.0 * s.composition["Cu"] - 2.0 * s.composition["Au"] for s in frames]) / 4
    more = typical_shift(residuals + by, frames, ["Cu", "Au"])
    assert [more[e] - moved[e] for e in moved] == pytest.approx([3.0, -2.0], abs=1e-9)


def test_weights_and_covariance_are_of_the_same_epoch() -> None:
    """Nine updates an epoch; the best epoch was the second, the last the third."""
    nnpkit.train("again.yaml", ["output=one", "start.epochs=1"])
    update = read_checkpoint(latest_checkpoint("one")).tensors["update"]
    assert int(update["updates"]) == 2 * 9 + 9
    best = read_checkpoint(Path("run/checkpoints/epoch-000002"))
    found = earlier_checkpoint(load_config("again.yaml").start)
    assert torch.equal(
        found.tensors["update"]["block-00000/triangle"], best.tensors["update"]["block-00000/triangle"]
    )
    last = read_checkpoint(latest_checkpoint("run"))
    assert not torch.equal(
        found.tensors["update"]["block-00000/triangle"], last.tensors["update"]["block-00000/triangle"]
    )


def test_without_the_covariance_of_the_best_epoch_the_filter_begins_anew(tmp_path) -> None:
    shutil.copytree("run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "epoch-000002")
    _, said = start([f"start.run={tmp_path / 'run'}", "output=two", "start.epochs=1"])
    assert "no covariance belongs to these weights" in said
    assert int(read_checkpoint(latest_checkpoint("two")).tensors["update"]["updates"]) == 9


def settings(overrides: list[str]):
    return load_config("again.yaml", ["model=" + json.dumps(yaml.safe_load(MODEL)), *overrides])


@pytest.fixture(scope="module")
def closer(before):
    """Data in which atoms come 3 % closer: the same functions, other ranges."""
    write_alloy(before / "closer.extxyz", gold=COMPOSITIONS, lattice=3.68)
    return "closer.extxyz"


@pytest.mark.parametrize("partition", ["global", "layer", "split"])
def test_scaling_follows_the_data_and_the_filter_does_not_notice(closer, partition) -> None:
    """The same functions, the same variances of predictions, the same step of the filter, in other coordinates."""
    overrides = [
        f"data.train={closer}", "data.validation=train.extxyz", "data.validation_fraction=0", "model.wall=off",
        f"training.optimizer.partition={partition}", "training.ridge=0",
        *(["training.optimizer.block_size=100000"] if partition == "split" else []),
    ]  # fmt: skip
    config = settings(overrides)
    nnpkit.train(
        "train.yaml", [*overrides[2:], "data.train=train.extxyz", f"output={partition}"], resume=True
    )
    config.start.run = partition
    data, checkpoint = load_data(config), earlier_checkpoint(config.start)
    beginning, old = begin(config, data, checkpoint), model_from(checkpoint)
    model = beginning.model
    features, types = features_of(model, data.train)
    scaled = model.scaling(features, types)
    assert float(scaled.min()) == pytest.approx(-1.0)
    assert float(scaled.max()) == pytest.approx(1.0)
    assert not torch.equal(old.scaling.shift, model.scaling.shift)
    torch.testing.assert_close(model.scaling.minimum[1], features[types == 1].amin(0))
    variances, moves = [], []
    for m in (old, model):
        m.reference_energies = old.reference_energies
        split = make_splits(m, data.splits, 1e9)["train"]
        update = make_update(config, split.store, 10)
        if m is old:
            update.load_state_dict(checkpoint.tensors["update"])
        else:
            beginning.continue_update(update, config.start)
        labels = some_labels()
        jacobian = update.observer.measure(labels).jacobian
        variances.append(jacobian @ update.optimizer.covariance.dense() @ jacobian.T)
        update.apply(labels)
        moves.append(predicted_energies(m, data.train))
    torch.testing.assert_close(variances[1], variances[0], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(moves[1], moves[0], rtol=0, atol=1e-7)


def features_of(model, structures):
    from nnpkit.data.graph import build_graph, edge_vectors

    found = []
    for s in structures:
        g = build_graph(s, model.elements, model.cutoff)
        found.append((model.features(edge_vectors(g), g.types[g.neighbor], g.offsets, g.types), g.types))
    return torch.cat([f for f, _ in found]).detach(), torch.cat([t for _, t in found])


def some_labels():
    from nnpkit.measure.label_choice import Labels

    return Labels([0], True, [torch.arange(3)], False)


def test_the_wall_follows_the_data(closer) -> None:
    """At the old distance it would act inside the range of the new data."""
    start(
        ["output=near", f"data.train={closer}", "data.validation=train.extxyz", "data.validation_fraction=0"]
    )
    report = json.loads(Path("near/data.json").read_text())
    shortest = {p: d["distance"] for p, d in report["statistics"]["train"]["min_distance"].items()}
    assert report["wall"] == pytest.approx(shortest)
    was = json.loads(Path("run/data.json").read_text())["wall"]
    assert all(report["wall"][pair] < was[pair] for pair in was)


def test_frozen_weights_are_not_to_be_found() -> None:
    """What few labels have to determine are the free weights: they count in the advice, not the others."""
    write("few.extxyz", [s.replace(forces=None, stress=None) for s in read("train.extxyz")[:9]])
    few = [
        "data.train=few.extxyz",
        "training.schedule.forces=0",
        "training.monitor=energy_rmse",
        "output=few",
    ]
    few.append("start.run=run/model.pt")  # its functions are kept
    _, said = start([*few, "start.freeze=[1]"])
    frozen, total = map(int, re.findall(r"(\d+) of (\d+) weights are frozen", said)[0])
    found = int(re.findall(r"Warning: (\d+) weights are to be found", said)[0])
    assert found == total - frozen
    assert f"Warning: {total} weights are to be found" in start(few)[1]


def test_much_shorter_distances_begin_from_scratch_and_say_so() -> None:
    write_alloy(Path("dense.extxyz"), gold=COMPOSITIONS, lattice=3.2)
    summary, said = start(["output=dense", "data.train=dense.extxyz", "start.epochs=1", "training.epochs=2"])
    assert "trained from scratch, not from run" in said
    assert summary["epochs"] == 2
    assert int(read_checkpoint(latest_checkpoint("dense")).tensors["update"]["updates"]) == 2 * 9
    assert (
        json.loads(Path("dense/data.json").read_text())["descriptor"]["functions"]
        != json.loads(Path("run/data.json").read_text())["descriptor"]["functions"]
    )
    with pytest.raises(InputError, match="weights to freeze cannot be carried over"):
        start(["output=frozen", "data.train=dense.extxyz", "start.freeze=[1]"])
    assert not Path("frozen").exists()
    _, said = start(["output=kept", "data.train=dense.extxyz", "start.run=run/model.pt", "start.freeze=[1]"])
    assert "begins with the potential of run/model.pt" in said


def test_the_section_model_is_that_of_the_run_or_refused() -> None:
    start(["output=same"])
    assert load_config("same/config.yaml").model == load_config("run/config.yaml").model
    for change, key in (
        ("model.network.hidden=[5]", "model.network.hidden: .4., not .5."),
        ("model.descriptor.radial=4", "model.descriptor.radial: 3, not 4"),
        ("model.descriptor.cutoff=5.9", "model.descriptor.cutoff: 6.0, not 5.9"),
    ):
        config = settings([change, "output=refused"])
        with pytest.raises(InputError, match=key):
            run_training(config, console=Console(quiet=True))
    run_training(settings(["output=ok", "model.scaling.kind=sigma"]), console=Console(quiet=True))
    assert not Path("refused").exists()


def test_a_start_is_resumed_without_the_run_it_began_with(tmp_path) -> None:
    whole = [f"start.run={tmp_path / 'run'}", "training.checkpoint.keep=9"]
    shutil.copytree("run", tmp_path / "run")
    nnpkit.train("again.yaml", [*whole, "start.epochs=2", "output=whole"])
    nnpkit.train("again.yaml", [*whole, "start.epochs=1", "output=halves"])
    shutil.rmtree(tmp_path / "run")
    nnpkit.train("again.yaml", [*whole, "start.epochs=2", "output=halves"], resume=True)
    a, b = (read_checkpoint(latest_checkpoint(f)).tensors["model"] for f in ("whole", "halves"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_committee_checks_the_baseline_too() -> None:
    nnpkit.train("train.yaml", ["committee={members: 2, processes: 1}", "output=pair", "training.epochs=1"])
    config = ["committee={members: 2, processes: 1}", "start.run=pair", "output=corrected"]
    with pytest.raises(InputError, match=r"corrects nothing, the labels are less .*emt"):
        nnpkit.train("again.yaml", [*config, "data.baseline={kind: ase, calculator: emt}"])
    assert not Path("corrected").exists()
    two = nnpkit.train("again.yaml", [*config, f"data.train={shifted(SHIFT, 'shifted.extxyz')}"])
    one = nnpkit.train("again.yaml", [*config[:2], "output=uncorrected"])
    assert two["validation"]["energy_rmse"] == pytest.approx(one["validation"]["energy_rmse"], abs=1e-6)
