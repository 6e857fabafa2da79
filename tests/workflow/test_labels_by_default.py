"""What is learnt, and how much it counts, where the configuration does not say."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloy import make_training
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import read
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.training.ridge import automatic_strength
from nnpkit.workflow.assemble import load_data
from nnpkit.workflow.balance import balance
from nnpkit.workflow.learned_labels import force_components, learns_virials, ridge_strength
from nnpkit.workflow.run_steps import trainer_settings
from nnpkit.workflow.training_run import run_training

FORCES = ["training.schedule.forces=auto"]
ADAM = "training.optimizer={kind: adam, learning_rate: 0.01}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def relabelled(path: str, keep: tuple[str, ...], factor: float = 1.0, only: int | None = None) -> None:
    """The training frames with some of their labels, forces times `factor` (in one frame)."""
    images = ase.io.read("train.extxyz", ":")
    for number, atoms in enumerate(images):
        results = {name: atoms.calc.results[name] for name in keep}
        if "forces" in results and only in (None, number):
            results["forces"] = factor * results["forces"]
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(path, images)


def test_stresses_that_contradict_the_energies_are_left_out(config: Path) -> None:
    """Stresses with the offset that a small basis gives them; `true` learns them all the same."""
    from data_tools import emt_copper

    sound = emt_copper(n=12, strain=0.02)
    shifted = [s.replace(stress=s.stress + 0.0125 * np.eye(3)) for s in sound]
    given = load_config(config, ["training.schedule.virial=true"])
    assert learns_virials(load_config(config), sound)
    assert not learns_virials(load_config(config), shifted)
    assert learns_virials(given, shifted)
    assert "stresses: not learnt, they contradict the energies" in balance(load_config(config), shifted, 100)


def test_forces_are_as_many_as_pay_and_none_where_there_are_none(config: Path) -> None:
    relabelled("energies.extxyz", ("energy",))
    settings, frames = load_config(config, FORCES), read("train.extxyz")
    assert force_components(settings, frames) == 30
    assert force_components(load_config(config, [*FORCES, "training.schedule.forces=7"]), frames) == 7
    assert force_components(load_config(config, [*FORCES, "training.schedule.forces=all"]), frames) is None
    assert force_components(settings, read("energies.extxyz")) == 0
    summary = run_training(
        load_config(config, [*FORCES, "data.train=energies.extxyz"]), console=Console(file=io.StringIO())
    )
    assert summary["train"]["energy_rmse"] is not None
    assert summary["train"]["force_rmse"] is None


@pytest.mark.parametrize(
    ("overrides", "learnt"),
    [
        ([], True),
        ([ADAM], True),
        (["training.schedule={kind: groups, group_atoms: 2}"], True),
        (["training.schedule={virial: false}"], False),
        (["data.train=bare.extxyz"], False),
        (["training.force_training=none"], False),
        (["training.optimizer={kind: adam, prefactors: {force: [100, 1]}}"], False),
        (["training.optimizer={kind: adam, prefactors: {virial: [0, 1]}}"], True),
    ],
)
def test_stress_is_learnt_where_there_is_any(config: Path, overrides: list[str], learnt: bool) -> None:
    relabelled("bare.extxyz", ("energy", "forces"))
    settings = load_config(config, overrides)
    assert learns_virials(settings, load_data(settings).learnt) is learnt


def test_a_schedule_of_nothing_but_a_stress_that_may_be_there_is_refused(config: Path) -> None:
    with pytest.raises(InputError, match="nothing to learn from"):
        load_config(config, ["training.schedule={energy: false, forces: 0}"])


def test_the_weights_of_the_labels_are_shown_and_the_model_knows_of_stress(config: Path) -> None:
    for name, more in (("with", []), ("without", ["training.schedule={virial: false}"])):
        text = io.StringIO()
        run_training(
            load_config(config, ["training.epochs=1", f"output={name}", *more]),
            console=Console(file=text, width=250),
        )
        assert "energies of 9 structures, noise at least 0.0005 eV/atom" in text.getvalue()
        assert ("stresses of 9 structures" if name == "with" else "stresses: not learnt") in text.getvalue()
        assert load(name).metadata["training"]["stress"] is (name == "with")


def test_the_ridge_follows_from_weights_and_labels(config: Path) -> None:
    assert automatic_strength(1000, 100_000) == 0.0
    assert automatic_strength(1000, 5_000) == pytest.approx(0.02)
    assert automatic_strength(1000, 100) == 0.1
    settings = load_config(config)
    structures = load_data(settings).learnt
    assert ridge_strength(settings, structures, 19) == pytest.approx(
        0.1 * 19 / (len(structures) * (1 + 12 + 6))
    )
    assert ridge_strength(load_config(config, ["training.ridge=0.5"]), structures, 19) == 0.5
    for other in (
        ADAM,
        "training.optimizer={learning_rate: 0.1}",
        "training.optimizer={observation_noise: blocks}",
    ):
        assert ridge_strength(load_config(config, [other]), structures, 19) == 0.0


def test_a_structure_that_does_not_go_with_the_others_is_named(config: Path) -> None:
    relabelled("spoilt.extxyz", ("energy", "forces"), factor=-30.0, only=4)
    text = io.StringIO()
    summary = run_training(
        load_config(config, ["data.train=spoilt.extxyz", "data.validation_fraction=0", "training.epochs=12"]),
        console=Console(file=text, width=250),
    )
    named = {(Path(one["structure"]).name, one["label"]) for one in summary["outliers"]}
    assert named == {("spoilt.extxyz#4", "force")}
    assert "spoilt.extxyz#4: force, an outlier in" in text.getvalue()
    assert json.loads(Path("run/summary.json").read_text())["outliers"] == summary["outliers"]
    assert np.isfinite(summary["outliers"][0]["error"])


def test_a_deep_potential_learns_energies_alone_where_there_are_no_forces(config: Path) -> None:
    relabelled("train.extxyz", ("energy",))
    descriptor = "{cutoff: 4.0, embedding: [4, 4], axis_neurons: 2}"
    model = f"model={{kind: deep_potential, descriptor: {descriptor}, network: {{hidden: [4]}}}}"
    data = ["data.validation=train.extxyz", "data.validation_fraction=0"]
    own = load_config(config, [model, "training={epochs: 2}", *data])
    summary = run_training(own, console=Console(quiet=True))
    assert summary["updates"] == 2 * len(ase.io.read("train.extxyz", ":"))


def test_energies_that_nobody_learns_choose_no_epoch(config: Path) -> None:
    """Their errors go up and down while those of forces fall, and the first epoch may have the best by chance."""
    chosen = {
        (): "energy_force",
        ("training.schedule.energy=false",): "force_rmse",
        ("training.schedule={kind: epoch, energy: false, forces: 0, virial: true}",): "energy_force",
        ("training.schedule.energy=false", "training.monitor=energy_rmse"): "energy_rmse",
    }
    for given, monitor in chosen.items():
        settings = load_config(config, ["training.schedule.kind=epoch", *given])
        assert trainer_settings(settings, epochs=3, warm=False, ahead=False).monitor == monitor, given
    relabelled("energies.extxyz", ("energy",))
    alone = ["data.train=train.extxyz", "data.validation=energies.extxyz", "training.schedule.kind=epoch"]
    alone += ["training.schedule.energy=false", "data.validation_fraction=0"]
    with pytest.raises(InputError, match="no validation structure has forces"):
        run_training(load_config(config, alone), console=Console(file=io.StringIO()))
