"""Published trainings by name: which settings they are, and each against its algorithm written out line by line."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))
from test_acsf import make_model as make_acsf
from test_deep_potential import ELEMENTS
from test_deep_potential import make_model as make_deep

from nnpkit.config.config_file import config_from_mapping, load_config, write_config
from nnpkit.data.graph import build_graph
from nnpkit.errors import InputError
from nnpkit.families.deep_potential.prepared import MomentStore, Resolution
from nnpkit.measure.frames import FrameStore
from nnpkit.models.potential import Potential
from nnpkit.testing.trial_structures import random_structure
from nnpkit.workflow.assemble import make_schedule, make_update
from nnpkit.workflow.update_makers import covariance_partition

N_ATOMS = 6


def configuration(tmp_path: Path, training: dict[str, Any]):
    """The configuration after it has been written and read again, as a run that is repeated reads it."""
    (tmp_path / "data.xyz").touch()
    values = {"data": {"train": "data.xyz"}, "training": training}
    config = config_from_mapping(values, tmp_path)
    write_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    return config


def structures_and_store(kind: str):
    """Four labelled structures of six atoms and what is prepared of them."""
    structures = []
    for seed in (21, 24, 27, 30):
        rng = np.random.default_rng(seed)
        structure = random_structure(ELEMENTS, N_ATOMS, seed=seed)
        structure.energy = -40.0 + float(rng.normal())
        structure.forces = rng.normal(size=(N_ATOMS, 3))
        structures.append(structure)
    if kind == "acsf":
        return structures, FrameStore(make_acsf(), structures, 1e9)
    resolution = Resolution(make_deep(), structures)
    resolution.set(128)
    return structures, MomentStore(resolution, structures, 1e9)


class Program:
    """The program of Hu et al., in its order: the filter by blocks, and how it is told energies and forces."""

    def __init__(self, model, structures, sizes, prefactors):
        self.model, self.structures = model, structures
        self.prefactors = prefactors
        self.ends = np.cumsum([0, *sizes])
        self.P = [np.eye(n) for n in sizes]
        self.lambda_ = 0.98
        self.parameters = list(model.parameters())

    def predict(self, index):
        graph = build_graph(self.structures[index], self.model.elements, self.model.cutoff)
        return Potential(self.model)(graph, create_graph=True)

    def gradient(self, value):
        parts = torch.autograd.grad(value, self.parameters, allow_unused=True)
        whole = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, parts, strict=True)]
        return parameters_to_vector(whole).detach().numpy()

    def step(self, H, error):
        w = parameters_to_vector(self.parameters).detach().numpy()
        slices = [slice(a, b) for a, b in zip(self.ends[:-1], self.ends[1:], strict=True)]
        tmp = 0.0
        for P, s in zip(self.P, slices, strict=True):
            tmp += self.lambda_ + H[s] @ P @ H[s]
        A = 1.0 / tmp
        for index, s in enumerate(slices):
            K = self.P[index] @ H[s]
            w[s] += A * error * K
            self.P[index] = (self.P[index] - A * np.outer(K, K)) / self.lambda_
        self.lambda_ = 0.9987 * self.lambda_ + 1.0 - 0.9987
        vector_to_parameters(torch.as_tensor(w), self.parameters)

    def energy(self, batch):
        prefactor, total, errors = self.prefactors["energy"], 0.0, []
        for index in batch:
            predicted = self.predict(index).energy[0]
            error = prefactor * (self.structures[index].energy - float(predicted)) / N_ATOMS
            total = total + prefactor * predicted * (-1.0 if error < 0 else 1.0)
            errors.append(abs(error))
        self.step(self.gradient(total) / N_ATOMS, np.mean(errors) * math.sqrt(len(batch)))

    def forces(self, batch, components):
        prefactor, total, errors = self.prefactors["force"], 0.0, []
        for index, own in zip(batch, components, strict=True):
            predicted = self.predict(index).forces.reshape(-1)[own]
            label = torch.as_tensor(self.structures[index].forces).reshape(-1)[own]
            error = prefactor * (label - predicted.detach())
            total = total + (prefactor * predicted * torch.where(error < 0, -1.0, 1.0)).sum()
            errors.append(error.abs())
        error = float(torch.cat(errors).mean()) / N_ATOMS
        self.step(self.gradient(total) / (N_ATOMS * len(components[0])), error * math.sqrt(len(batch)))


class Printed(Program):
    """Algorithms 1 and 2 of Hu et al. (2023), by their line numbers; one structure at a time, no factors."""

    def algorithm_2(self, predicted, label):
        signs = [
            -1.0 if float(p) >= float(t) else 1.0 for p, t in zip(predicted, label, strict=True)
        ]  # 1 to 5
        Y = sum(s * p for s, p in zip(signs, predicted, strict=True)) / len(label)  # 6
        err = sum(abs(float(t) - float(p)) for p, t in zip(predicted, label, strict=True)) / len(label)
        H = self.gradient(Y)  # 7
        L, w = len(self.P), parameters_to_vector(self.parameters).detach().numpy()
        parts = [slice(a, b) for a, b in zip(self.ends[:-1], self.ends[1:], strict=True)]
        a = 1.0 / (L * self.lambda_ + sum(H[s] @ P @ H[s] for P, s in zip(self.P, parts, strict=True)))  # 8
        for index, s in enumerate(parts):  # 9
            K = self.P[index] @ H[s]  # 10
            self.P[index] = (1.0 / self.lambda_) * (self.P[index] - a * np.outer(K, K))  # 11
            w[s] = w[s] + a * K * err  # 12
        self.lambda_ = self.lambda_ * 0.9987 + 1.0 - 0.9987  # 14
        vector_to_parameters(torch.as_tensor(w), self.parameters)  # 15

    def energy(self, batch):
        (index,) = batch
        self.algorithm_2(list(self.predict(index).energy), [self.structures[index].energy])

    def forces(self, batch, components):
        (index,), (own,) = batch, components
        label = torch.as_tensor(self.structures[index].forces).reshape(-1)[own]
        self.algorithm_2(list(self.predict(index).forces.reshape(-1)[own]), label)


@pytest.mark.parametrize("kind", ["acsf", "deep"])
@pytest.mark.parametrize(
    ("preset", "batch", "prefactors"),
    [("rlekf", 1, {}), ("rlekf", 2, {"energy": 0.7}), ("rlekf_paper", 1, {})],
)
def test_rlekf_line_by_line(tmp_path, preset, batch, prefactors, kind):
    optimizer = {"preset": preset, "block_size": 60, **({"prefactors": prefactors} if prefactors else {})}
    schedule = {"group_atoms": 2, "groups": 2, "batch_size": batch}
    config = configuration(tmp_path, {"optimizer": optimizer, "schedule": schedule})
    structures, store = structures_and_store(kind)
    update, order = make_update(config, store, 10), make_schedule(config, structures)
    partition = covariance_partition(config.training.optimizer, store.model)
    assert len(partition.blocks) > 2
    other_structures, other_store = structures_and_store(kind)
    reference = {"rlekf": Program, "rlekf_paper": Printed}[preset]
    factors = {"energy": 1.0, "force": 2.0, **prefactors}
    published = reference(other_store.model, other_structures, partition.sizes, factors)
    n_updates = 0
    for labels in order.epoch():
        update.apply(labels)
        if labels.energy:
            published.energy(labels.structures)
        else:
            published.forces(labels.structures, labels.components)
        n_updates += 1
        if n_updates == 1:
            assert labels.energy  # the energy comes first
        mine, theirs = (
            parameters_to_vector(list(m.parameters())).detach() for m in (store.model, published.model)
        )
        assert torch.allclose(mine, theirs, rtol=1e-10, atol=1e-10), n_updates
    assert n_updates == 12 // batch
    dense = update.optimizer.covariance.dense().numpy()
    for (start, stop, _), block in zip(partition.blocks, published.P, strict=True):
        assert np.allclose(dense[start:stop, start:stop], block, rtol=1e-10, atol=1e-10)
    assert float(update.optimizer.forgetting) == pytest.approx(published.lambda_, rel=1e-14)


def test_shao_line_by_line(tmp_path):
    """Algorithm 2 of Shao et al.: xi = sqrt(c/n) (prediction - label), J its derivative, R = 1/eta."""
    eta, c = 50.0, {"energy": 1.0, "force": 0.4}
    training = {"optimizer": {"preset": "shao", "learning_rate": eta}, "weights": c}
    config = configuration(tmp_path, training)
    structures, store = structures_and_store("acsf")
    update, order = make_update(config, store, 10), make_schedule(config, structures)
    other_structures, other_store = structures_and_store("acsf")
    program = Program(other_store.model, other_structures, [], {})
    P = np.eye(update.observer.n_parameters)
    kinds = set()
    for labels in (labels for _ in range(3) for labels in order.epoch()):
        update.apply(labels)
        (index,) = labels.structures
        prediction, structure = program.predict(index), other_structures[index]
        kinds.add(labels.energy)
        if labels.energy:
            predicted, label, n = prediction.energy, torch.tensor([structure.energy], dtype=torch.float64), 1
        else:
            own = labels.components[0]
            predicted = prediction.forces.reshape(-1)[own]
            label, n = torch.as_tensor(structure.forces).reshape(-1)[own], 10
        scale = math.sqrt(c["energy" if labels.energy else "force"] / n)
        xi = scale * (predicted.detach().numpy() - label.numpy())
        J = np.array([scale * _row(program, value).numpy() for value in predicted])
        A = np.linalg.inv(J @ P @ J.T + np.eye(len(xi)) / eta)
        K = P @ J.T @ A
        w = parameters_to_vector(program.parameters).detach().numpy() - K @ xi
        P = (np.eye(len(w)) - K @ J) @ P
        vector_to_parameters(torch.as_tensor(w), program.parameters)
        mine = parameters_to_vector(update.parameters).detach().numpy()
        assert np.allclose(mine, w, rtol=1e-10, atol=1e-10)
    assert kinds == {True, False}
    assert np.allclose(update.optimizer.covariance.dense().numpy(), P, rtol=1e-10, atol=1e-10)


def _row(program, value):
    parts = torch.autograd.grad(value, program.parameters, retain_graph=True, allow_unused=True)
    return parameters_to_vector(
        [torch.zeros_like(p) if g is None else g for p, g in zip(program.parameters, parts, strict=True)]
    )


def test_presets_are_visible_and_can_be_changed(tmp_path):
    training = configuration(tmp_path, {"optimizer": {"preset": "rlekf"}}).training
    optimizer, schedule = training.optimizer, training.schedule
    assert (optimizer.observation_noise, optimizer.partition, optimizer.block_size) == (
        "blocks",
        "packed",
        5120,
    )
    assert (optimizer.forgetting, optimizer.forgetting_rate, optimizer.divide_by_atoms) == (
        0.98,
        0.9987,
        True,
    )
    assert (optimizer.prefactors.energy, optimizer.prefactors.force) == (1.0, 2.0)
    assert (schedule.kind, schedule.energy_first, schedule.group_atoms, schedule.groups) == (
        "groups",
        True,
        6,
        4,
    )
    assert schedule.reduction == "signed_mean"
    text = (tmp_path / "config.yaml").read_text()
    for line in (
        "preset: rlekf",
        "block_size: 5120",
        "force: 2.0",
        "reduction: signed_sum",
        "energy_first: true",
    ):
        assert line in text

    changed = {"optimizer": {"preset": "rlekf", "prefactors": {"force": 3.0}, "forgetting": 0.99},
               "schedule": {"groups": 1}}  # fmt: skip
    training = configuration(tmp_path, changed).training
    assert training.optimizer.prefactors.model_dump() == {"energy": 1.0, "force": 3.0, "virial": 1.0}
    assert (training.optimizer.forgetting, training.schedule.groups, training.schedule.group_atoms) == (
        0.99,
        1,
        6,
    )

    paper = configuration(tmp_path, {"optimizer": {"preset": "rlekf_paper"}}).training.optimizer
    assert (paper.partition, paper.divide_by_atoms, paper.prefactors.force) == ("reorganized", False, 1.0)
    shao = configuration(tmp_path, {"optimizer": {"preset": "shao"}}).training
    assert (shao.optimizer.partition, shao.optimizer.forgetting, shao.schedule.kind) == (
        "global",
        1.0,
        "pinn",
    )
    assert shao.weights.per_atom is False
    with pytest.raises(
        InputError, match="the preset rlekf is published with a schedule of kind groups, not epoch"
    ):
        configuration(tmp_path, {"optimizer": {"preset": "rlekf"}, "schedule": {"kind": "epoch"}})


def test_a_preset_of_a_deep_potential_keeps_its_forgetting(tmp_path):
    (tmp_path / "data.xyz").touch()
    for optimizer in ({"preset": "rlekf"}, {"observation_noise": "blocks"}):
        values = {
            "data": {"train": "data.xyz"},
            "model": {"kind": "deep_potential"},
            "training": {"optimizer": optimizer},
        }
        found = config_from_mapping(values, tmp_path).training
        assert (found.optimizer.forgetting, found.optimizer.forgetting_rate) == (0.98, 0.9987)
        assert found.schedule.kind == "groups"


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer": {"observation_noise": "blocks", "noise": {"energy": 1.0}}}, "noise has no effect"),
        ({"optimizer": {"observation_noise": "blocks", "learning_rate": 1.0}}, "learning_rate has no effect"),
        ({"optimizer": {"observation_noise": "blocks"}, "weights": {"force": 2.0}}, "weights has no effect"),
        ({"optimizer": {"learning_rate": 1.0, "noise": {"force": 1.0}}}, "noise has no effect"),
        ({"optimizer": {"divide_by_atoms": True}}, "divide_by_atoms has no effect"),
        ({"optimizer": {"prefactors": {"force": 2.0}}}, "prefactors has no effect"),
        ({"optimizer": {"noise_decay": 1.0}}, "noise_decay has no effect: noise_minimum is 1"),
        ({"optimizer": {"noise_minimum": 0.1}}, "noise_minimum has no effect: noise_decay is 0"),
        ({"optimizer": {"noise_maximum": 7.0}}, "noise_maximum has no effect: noise_growth is 0"),
        ({"optimizer": {"process_noise_decay": 1.0}}, "process_noise_decay has no effect"),
        ({"optimizer": {"process_noise_minimum": 1.0}}, "process_noise_minimum has no effect"),
        ({"optimizer": {"forgetting": 1.0, "forgetting_rate": 0.5}}, "forgetting_rate has no effect"),
        ({"optimizer": {"partition": "layer", "block_size": 50}}, "block_size has no effect: the partition is layer"),
        ({"optimizer": {"kind": "ekf"}, "weights": {"energy": 2.0}}, "weights has no effect"),
        ({"optimizer": {"kind": "adam", "prefactors": {}}, "weights": {"energy": 2.0}}, "weights has no effect"),
        ({"optimizer": {"kind": "adam", "final_learning_rate": 1e-5, "decay_factor": 0.9}}, "decay_factor has no"),
        ({"optimizer": {"learning_rate": 1.0}, "weights": {"per_atom": True}}, "learns total energies"),
        ({"optimizer": {"learning_rate": 1.0}, "weights": {"virial": 0.0}}, "a weight of 0 is an infinite noise"),
        ({"optimizer": {"reduction": "signed_mean"}}, "mixes energies and forces in one"),
        ({"optimizer": {"reduction": "signed_sum"}, "schedule": {"kind": "groups", "joint_from": 0}}, "mixes energies"),
        ({"optimizer": {"reduction": "signed_mean"}, "schedule": {"kind": "groups"}, "ridge": 1.0}, "ridge adds"),
        ({"optimizer": {"observation_noise": "blocks"}, "ridge": 1.0}, "it needs observation_noise: given"),
    ],
)  # fmt: skip
def test_settings_without_effect_are_refused(tmp_path, training, message):
    with pytest.raises(InputError, match=message):
        configuration(tmp_path, training)


def test_blocks_forget_as_published_unless_told_otherwise(tmp_path):
    for given, expected in (
        ({}, (0.98, 0.9987)), ({"forgetting": 0.9}, (0.9, 0.9987)), ({"dtype": "float32"}, (0.98, 0.9987)),
    ):  # fmt: skip
        optimizer = configuration(
            tmp_path, {"optimizer": {"observation_noise": "blocks", **given}}
        ).training.optimizer
        assert (optimizer.forgetting, optimizer.forgetting_rate) == expected
    one = configuration(tmp_path, {"optimizer": {"observation_noise": "blocks", "forgetting": 1.0}})
    assert one.training.optimizer.forgetting == 1.0
