"""Deep Potentials are as large as the data support, unless somebody says how large."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from data_tools import emt_copper

from nnpkit.errors import InputError
from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.families.deep_potential.family import DEEP_POTENTIAL
from nnpkit.families.deep_potential.settings import DeepPotentialModel
from nnpkit.families.deep_potential.supported_sizes import LARGEST, Size, supported_size
from nnpkit.models.residual_networks import FittingNetwork


def described(**descriptor) -> dict:
    data = SimpleNamespace(elements=["Cu"], train=emt_copper(n=4, strain=0.02))
    spec, _ = DEEP_POTENTIAL.describe(DeepPotentialModel(descriptor=descriptor), data)
    return spec["descriptor"]


def test_weights_are_counted_as_the_networks_have_them():
    for size in (LARGEST, Size([16, 16, 16], 4, [20, 20, 20])):
        descriptor = DeepDescriptor(
            ["Cu"], cutoff=4.0, smooth_from=0.5, cutoff_kind="poly2", embedding=size.embedding,
            axis_neurons=size.axis_neurons, activation="tanh", timestep=False, one_side=True,
        )  # fmt: skip
        network = FittingNetwork(descriptor.n_features[0], size.hidden, "tanh", False)
        weights = sum(p.numel() for part in (descriptor, network) for p in part.parameters())
        assert size.n_weights == pytest.approx(weights, rel=0.01)


def test_many_labels_allow_a_large_one():
    assert supported_size({"Cu": 600_000}) == LARGEST
    assert supported_size({"Cu": 200_000}).axis_neurons == 8
    assert supported_size({"Cu": 100}).hidden == [20, 20, 20]
    assert supported_size({"Cu": 200_000, "H": 100}).hidden == [20, 20, 20]


def test_given_sizes_are_kept():
    assert (described()["embedding"], described()["axis_neurons"]) == ([16, 16, 16], 4)
    assert described(embedding=[8, 12])["axis_neurons"] == 12
    assert (described(axis_neurons=3)["embedding"], described(axis_neurons=3)["axis_neurons"]) == (
        [25, 25, 25],
        3,
    )
    with pytest.raises((InputError, ValueError), match="more than the last layer"):
        DeepPotentialModel(descriptor={"axis_neurons": 26})


def test_a_block_holds_a_small_potential_unless_told_otherwise():
    assert DeepPotentialModel.complete({})["optimizer"]["block_size"] == 4096
    given = DeepPotentialModel.complete({"optimizer": {"block_size": 100}})
    assert given["optimizer"]["block_size"] == 100
    assert (
        "block_size" not in DeepPotentialModel.complete({"optimizer": {"partition": "global"}})["optimizer"]
    )
    assert "block_size" not in DeepPotentialModel.complete({"optimizer": {"preset": "rlekf"}})["optimizer"]
