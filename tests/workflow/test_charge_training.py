"""Training with charges: two stages and one, every optimizer, what comes out and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from rich.console import Console

from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.models.electrostatics import COULOMB

QUIET = Console(quiet=True)


def ions(n: int = 12, seed: int = 1, **changes) -> list[Structure]:
    """Li and F far apart and near: charges that follow from distances, Coulomb's law and a soft repulsion."""
    random, made = np.random.default_rng(seed), []
    for k in range(n):
        positions = np.array([[0, 0, 0], [1.8, 0, 0], [0, 0, 7.0], [1.9, 0, 7.5]]) + 0.15 * random.normal(
            size=(4, 3)
        )
        q = np.empty(4)
        forces, energy = np.zeros((4, 3)), 0.0
        q[[0, 2]], q[[1, 3]] = 0.8, -0.8
        for i in range(4):
            for j in range(i):
                d = positions[i] - positions[j]
                r = float(np.linalg.norm(d))
                short = 40.0 * np.exp(-2.2 * r)
                energy += COULOMB * q[i] * q[j] / r + short
                f = (COULOMB * q[i] * q[j] / r**2 + 2.2 * short) * d / r
                forces[i] += f
                forces[j] -= f
        state = {"charges": q, "total_charge": 0.0, "dipole": q @ positions}
        made.append(
            Structure(
                ["Li", "F"] * 2,
                positions,
                energy=energy,
                forces=forces,
                name=f"ions#{k}",
                **{**state, **changes},
            )
        )
    return made


CHEBYSHEV = {
    "kind": "chebyshev", "network": {"hidden": [4]}, "wall": "off",
    "descriptor": {"radial_order": 4, "radial_cutoff": 4.0, "angular_order": 2, "angular_cutoff": 3.0},
}  # fmt: skip


def config(folder: Path, frames: list[Structure], charges: dict, **changes):
    write(folder / "ions.xyz", frames)
    training = {"epochs": 2, "optimizer": {"kind": "ekf"}, **changes.pop("training", {})}
    values = {
        "data": {"train": ["ions.xyz"], "validation_fraction": 0.2, "test_fraction": 0.2, "suspicious": "ignore",
                 **changes.pop("data", {})},
        "model": {**changes.pop("model", CHEBYSHEV), "charges": charges},
        "training": training, "output": str(folder / "run"), **changes,
    }  # fmt: skip
    return config_from_mapping(values, folder)


def run(made, **options) -> dict:
    from nnpkit.workflow.training_run import run_training

    return run_training(made, console=QUIET, **options)


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_a_training_writes_a_potential_with_charges(tmp_path: Path, generation: str) -> None:
    from nnpkit.deploy.load import load
    from nnpkit.md.calculator import NnpkitCalculator

    charges = (
        {"generation": generation} if generation == "latent" else {"generation": generation, "passes": 10}
    )
    summary = run(config(tmp_path, ions(), charges))
    report = json.loads((tmp_path / "run" / "data.json").read_text())["descriptor"]["report"]
    if generation != "latent":
        assert summary["test"]["charge_rmse"] < 0.1
        assert summary["test"]["dipole_rmse"] < 0.6
        assert any(line.startswith("charges: RMSE 0.0") for line in report)
    s = ions(1, seed=9)[0]
    model = load(tmp_path / "run")
    found = model.predict(s)
    assert found.charges.sum() == pytest.approx(0.0, abs=1e-10)
    np.testing.assert_allclose(found.dipole, found.charges @ s.positions)
    atoms = Atoms(s.symbols, s.positions, calculator=NnpkitCalculator(model, kernel="torchscript"))
    assert atoms.get_potential_energy() == found.energy
    np.testing.assert_array_equal(atoms.get_charges(), found.charges)
    atoms.info["total_charge"] = 1.0
    assert atoms.get_charges().sum() == pytest.approx(1.0)


@pytest.mark.parametrize("optimizer", [{"kind": "adam", "learning_rate": 0.01}, {"kind": "lbfgs"}])
def test_other_optimizers_learn_charges_too(tmp_path: Path, optimizer: dict) -> None:
    from nnpkit.workflow.assemble import load_data
    from nnpkit.workflow.new_model import make_model

    schedule = {"schedule": {"kind": "full"}} if optimizer["kind"] == "lbfgs" else {}
    training = {"optimizer": optimizer, "epochs": 1, **schedule}
    made = config(tmp_path, ions(), {"generation": "fourth", "passes": 30}, training=training)
    words = next(line for line in make_model(made, load_data(made))[1] if line.startswith("charges: RMSE"))
    assert float(words.split()[2]) < 0.1


def test_the_fourth_generation_begins_at_the_hardness_that_charges_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more is learnt, and yet charges are those of what was found, unless settings say where to begin."""
    from nnpkit.workflow import charge_stage
    from nnpkit.workflow.assemble import load_data
    from nnpkit.workflow.new_model import make_model

    asked: list[int] = []

    def fitted(known, own, usual) -> tuple[np.ndarray, np.ndarray]:
        asked.append(len(known))
        assert all(np.abs(one.charges).max() == 0.8 for one in known)
        assert usual == 5.0
        hardness = np.array([200.0, 300.0])
        return np.array([-0.8, 0.8]) * (hardness + own), hardness  # Li, F

    monkeypatch.setattr(charge_stage, "fit_hardness", fitted)
    still = {"optimizer": {"kind": "ekf", "initial_covariance": 1e-12}}
    for given, right, hardness in (
        ({}, True, [200.0, 300.0]),
        ({"hardness": {"Li": 5.0, "F": 6.0}}, False, [5.0, 6.0]),
    ):
        made = config(tmp_path, ions(), {"generation": "fourth", "passes": 1, **given}, training=still)
        model, words = make_model(made, load_data(made))
        np.testing.assert_allclose(model.hardness.detach(), hardness, rtol=1e-5)
        error = float(next(line for line in words if line.startswith("charges: RMSE")).split()[2])
        assert (error < 0.3) == right
        assert torch.equal(model.stretch, torch.ones(2, dtype=torch.float64))
    assert len(asked) == 1
    assert asked[0] > 3


def test_charges_stay_as_they_are_in_the_second_stage_and_resume_goes_on(tmp_path: Path) -> None:
    from nnpkit.training.checkpoint import CHECKPOINTS, model_from, read_checkpoint

    charges = {
        "generation": "fourth",
        "passes": 5,
        "hardness": {"Li": 6.0, "F": 9.0},
        "trained_hardness": False,
    }
    whole = config(tmp_path, ions(), charges, output=str(tmp_path / "whole"))
    run(whole)
    part = config(tmp_path, ions(), charges, output=str(tmp_path / "part"), training={"epochs": 1})
    run(part)
    longer = config(tmp_path, ions(), charges, output=str(tmp_path / "part"))
    run(longer, resume=True)
    states = []
    for name in ("whole", "part"):
        for epoch in (1, 2):
            path = tmp_path / name / CHECKPOINTS / f"epoch-{epoch:06d}"
            if path.is_dir():
                states.append(model_from(read_checkpoint(path)).state_dict())
    assert len(states) >= 3
    for state in states[1:]:
        for key, value in states[0].items():
            if key.startswith(("charge_networks", "hardness")):
                assert torch.equal(value, state[key])
    assert all(torch.equal(states[-1][key], value) for key, value in states[1].items()) or len(states) == 3
    np.testing.assert_allclose(states[0]["hardness_root"].square(), [6.0, 9.0])  # Li, F


def test_charges_stay_right_where_the_descriptor_is_trained(tmp_path: Path) -> None:
    """A descriptor that learns energies would change charges that nobody looks at any more."""
    descriptor = {"cutoff": 4.0, "embedding": [4], "axis_neurons": 2}
    deep = {"kind": "deep_potential", "descriptor": descriptor, "network": {"hidden": [4]}, "wall": "off"}
    made = config(tmp_path, ions(), {"generation": "third", "passes": 3}, model=deep, training={"epochs": 1})
    assert run(made)["test"]["charge_rmse"] < 0.03


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_a_training_begins_with_another_potential(tmp_path: Path, generation: str) -> None:
    """With one frozen pass nothing is learnt: the potential is that of the run, or of its file, on other data."""
    from nnpkit.deploy.load import load

    charges = {"generation": generation} | ({"passes": 6} if generation != "latent" else {})
    run(config(tmp_path, ions(), charges, training={"epochs": 4}))
    first, frame = load(tmp_path / "run"), ions(1, seed=9)[0]
    others = [s.replace(charges=None) for s in ions(10, seed=4)]  # no labels of charges: they stay
    for start, model in (("run", CHEBYSHEV), ("run/model.pt", CHEBYSHEV), ("run", None)):
        changes = {
            "start": {"run": str(tmp_path / start), "covariance": False},
            "output": str(tmp_path / "next"),
        }
        training = {"epochs": 1, "optimizer": {"kind": "adam", "learning_rate": 1e-12}}
        made = config(tmp_path, others, charges, training=training, **changes)
        if model is None:
            values = made.model_dump(exclude_unset=True, mode="json")
            del values["model"]
            made = config_from_mapping(values, tmp_path)
        run(made, overwrite=True)
        found, expected = load(tmp_path / "next").predict(frame), first.predict(frame)
        np.testing.assert_allclose(found.charges, expected.charges, atol=1e-7)
        np.testing.assert_allclose(found.forces, expected.forces, atol=1e-6)
        assert abs(found.energy - frame.energy) < abs(expected.energy - frame.energy) + 0.5
        report = json.loads((tmp_path / "next" / "data.json").read_text())["descriptor"]["report"]
        assert any("begins with the potential of" in line for line in report)


def test_charges_go_on_learning_where_labels_are_and_other_charges_are_refused(tmp_path: Path) -> None:
    run(config(tmp_path, ions(), {"generation": "third", "passes": 1}, training={"epochs": 1}))
    start = {"start": {"run": str(tmp_path / "run")}, "output": str(tmp_path / "next")}
    # another number of passes is no other model, but other charges or none are
    made = config(tmp_path, ions(), {"generation": "third", "passes": 8}, training={"epochs": 1}, **start)
    before = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]["charge_rmse"]
    assert run(made)["test"]["charge_rmse"] < 0.5 * before
    with pytest.raises(InputError, match=r"model\.charges.*generation: third, not latent"):
        run(config(tmp_path, ions(), {"generation": "latent"}, **start), overwrite=True)
    start["start"] = {"run": str(tmp_path / "run" / "model.pt")}
    with pytest.raises(InputError, match=r"has model\.charges: third, not latent"):
        run(config(tmp_path, ions(), {"generation": "latent"}, **start), overwrite=True)


def test_labels_are_refused_that_do_not_suit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no training structure has charges.*generation: latent"):
        run(config(tmp_path, ions(charges=None), {"generation": "third"}))
    assert not (tmp_path / "run").exists()
    frames = [s.replace(charges=None) if k % 3 == 0 else s for k, s in enumerate(ions())]
    made = config(tmp_path, frames, {"generation": "third", "passes": 1})
    run(made)
    report = json.loads((tmp_path / "run" / "data.json").read_text())["descriptor"]["report"]
    assert any(
        "training structures have no charges, which were learnt from the others" in line for line in report
    )


def test_charged_cells_are_said_to_have_a_background(tmp_path: Path) -> None:
    frames = [
        s.replace(
            cell=np.eye(3) * 14.0,
            pbc=np.full(3, True),
            charges=s.charges + 0.25,
            total_charge=1.0,
            dipole=None,
        )
        for s in ions(6)
    ]
    run(config(tmp_path, frames, {"generation": "third", "passes": 1}, training={"epochs": 1}))
    report = json.loads((tmp_path / "run" / "data.json").read_text())["descriptor"]["report"]
    assert any(
        "periodic structures are charged: they stand in a uniform background" in line for line in report
    )


@pytest.mark.parametrize(
    ("charges", "changes", "words"),
    [
        ({"generation": "third", "channels": 2}, {}, "channels has no effect"),
        ({"generation": "third", "hardness": {"Li": 1.0}}, {}, "hardness has no effect"),
        ({"generation": "third", "trained_hardness": False}, {}, "trained_hardness has no effect"),
        ({"generation": "latent", "passes": 5}, {}, "passes has no effect"),
        ({"generation": "fourth", "widths": {"Li": 0.0, "F": 1.0}}, {}, "widths of fourth must be positive"),
        ({"generation": "third", "screening": [3.0, 2.0]}, {}, "screening must begin before it ends"),
        (
            {"generation": "latent"},
            {"data": {"labels": {"charges": "q"}}},
            "data.labels.charges has no effect",
        ),
    ],
)
def test_settings_without_effect_are_refused(
    tmp_path: Path, charges: dict, changes: dict, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        config(tmp_path, ions(1), charges, **changes)


@pytest.mark.parametrize(
    ("charges", "words"),
    [
        ({"generation": "fourth", "hardness": {"Li": 5.0}}, "no hardness of F"),
        ({"generation": "fourth", "widths": {"Li": 1.0}}, "no widths of F"),
        ({"generation": "third", "screening": 4.5}, r"screening up to 4.5 Å, the cutoff is 4 Å"),
    ],
)
def test_settings_that_lack_an_element_are_refused(tmp_path: Path, charges: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(config(tmp_path, ions(4), charges))


def test_screening_widths_and_channels_are_used(tmp_path: Path) -> None:
    from nnpkit.workflow.assemble import load_data
    from nnpkit.workflow.new_model import make_model

    def model(**charges):
        made = config(tmp_path, ions(4), {"generation": "latent", **charges})
        return make_model(made, load_data(made))[0]

    assert model().screening is None
    assert model(screening="auto").screening is None
    assert model(screening=2.5).screening == [0.0, 2.5]
    assert model(screening=[1.0, 3.0]).screening == [1.0, 3.0]
    assert model(widths=0.5).widths.tolist() == [0.5, 0.5]
    assert len(model(channels=3).charge_networks) == 3
    assert len(model(network={"hidden": [5, 2]}).charge_networks[0].networks[0].layers) == 3


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_members_of_a_committee_learn_their_own_charges(tmp_path: Path, generation: str) -> None:
    """From different first weights and different structures; the mean is evaluated, charges of members differ."""
    from nnpkit.deploy.load import load

    charges = {"generation": generation, **({} if generation == "latent" else {"passes": 5})}
    made = config(
        tmp_path, ions(), charges, committee={"members": 2, "resample": "bootstrap", "processes": 1}
    )
    summary = run(made)
    committee = load(tmp_path / "run" / "committee.pt")
    each = [load(tmp_path / "run" / f"member-{m:02d}") for m in range(2)]
    s = ions(1, seed=9)[0]
    found, alone = committee.predict(s), [member.predict(s) for member in each]
    assert found.charges == pytest.approx(np.mean([one.charges for one in alone], axis=0), abs=1e-12)
    assert found.forces == pytest.approx(np.mean([one.forces for one in alone], axis=0), abs=1e-12)
    assert found.disagreement.charges_std.max() > 1e-4
    assert summary["test"]["force_rmse"] > 0.0
    if generation != "latent":  # each member's report says what became of its charges
        logs = [(tmp_path / "run" / f"member-{m:02d}" / "train.log").read_text() for m in range(2)]
        assert all("charges: RMSE" in log for log in logs)
        assert logs[0].split("charges: RMSE")[1].split()[0] != logs[1].split("charges: RMSE")[1].split()[0]
        assert summary["test"]["charge_rmse"] < 0.15


def test_a_committee_goes_on_with_the_charges_of_its_members(tmp_path: Path) -> None:
    from nnpkit.deploy.load import load

    committee = {"members": 2, "processes": 1}
    charges = {"generation": "third", "passes": 5}
    run(config(tmp_path, ions(), charges, committee=committee))
    unlabelled = [frame.replace(charges=None, dipole=None) for frame in ions(seed=3)]
    again = config(
        tmp_path, unlabelled, charges, committee=committee, output=str(tmp_path / "again"),
        start={"run": str(tmp_path / "run")},
    )  # fmt: skip
    run(again)
    s = ions(1, seed=9)[0]
    for m in range(2):
        before, after = (load(tmp_path / name / f"member-{m:02d}").predict(s) for name in ("run", "again"))
        assert after.charges == pytest.approx(before.charges, abs=1e-12)
        assert abs(after.energy - before.energy) > 1e-6
