"""What decides the size of a model and the memory of its training, as the settings see it."""

from __future__ import annotations

import numpy as np
import pytest
from alloy import make_training

from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.workflow.advice import few_labels
from nnpkit.workflow.assemble import load_data
from nnpkit.workflow.new_model import make_model
from nnpkit.workflow.run_steps import memory_of


def made(folder, *overrides):
    config = load_config(make_training(folder), list(overrides))
    data = load_data(config)
    return config, data, *make_model(config, data)


def test_functions_per_element_limits_what_is_generated(tmp_path):
    _, _, all_, _ = made(tmp_path)
    _, _, few, report = made(tmp_path, "model.descriptor.functions_per_element=7")
    assert all_.descriptor.n_features == [18, 18]
    assert few.descriptor.n_features == [7, 7]
    assert any(line.startswith("Cu: 7 of 18 functions") for line in report)
    kept = [f for f in all_.spec["functions"] if f in few.spec["functions"]]
    assert few.spec["functions"] == kept


def test_functions_that_vary_little_are_kept_unless_the_range_is_set(tmp_path):
    _, _, model, report = made(tmp_path, "model.descriptor.minimum_range=0.05")
    assert sum(model.descriptor.n_features) < 36
    assert any("over the data it varies by" in line for line in report)


def test_atoms_without_neighbours_teach_nothing(tmp_path):
    config = load_config(make_training(tmp_path), ["model.descriptor.angular_cutoff=null"])
    lonely = [Structure(["Cu"], np.zeros((1, 3)), energy=-3.5) for _ in range(3)]
    write("train.extxyz", lonely)
    with pytest.raises(InputError, match="no atom of the training structures has a neighbour within 6 Å"):
        make_model(config, load_data(config))


def test_nodes_follow_the_labels_unless_they_are_given(tmp_path):
    _, _, model, report = made(tmp_path, "model.network={hidden: null}")
    assert [len(n.layers[0].bias) for n in model.networks.networks] == [10, 10]
    assert "nodes of the hidden layers: Cu 10-10 (63 labels), Au 10-10 (63 labels)" in report
    _, _, model, report = made(tmp_path)
    assert [len(n.layers[0].bias) for n in model.networks.networks] == [4, 4]
    assert not any("nodes" in line for line in report)


def test_what_helps_where_labels_are_few_depends_on_the_features(tmp_path):
    functions = "model={kind: chebyshev, network: {hidden: [4]}}"
    expansion = "model={kind: cluster_expansion, network: {hidden: [4]}}"
    said = []
    for overrides in ([functions], [expansion], [expansion, "committee={members: 2}"]):
        config, data, _, _ = made(tmp_path, *overrides)
        assert few_labels(config, data.learnt, 10) == []
        said += few_labels(config, data.learnt, 10**6)
    assert "more data, training.ridge=0.3 (now auto)" in said[0]
    assert said[1].endswith("What helps: more data, or a committee (committee.members=4)")
    assert said[2].endswith("What helps: more data")


@pytest.mark.parametrize(
    ("override", "budget"),
    [
        ("seed=1", 0.0),
        ("training.optimizer={kind: adam}", 1.0e9),
        ("training.memory_budget_gb=3.5", 3.5e9),
        ("model={kind: chebyshev}", 32e9),
    ],
)
def test_derivatives_that_kernels_compute_fast_take_little_memory_or_none(
    tmp_path, monkeypatch, override, budget
):
    monkeypatch.setattr("nnpkit.workflow.run_steps.available_memory", lambda: 64_000_000_000)
    config, data, model, _ = made(tmp_path, override)
    assert memory_of(config, model, data)["budget"] == pytest.approx(budget, rel=0.01)
