"""Writing potentials for RuNNer and n2p2: what is written is what was there, to the last digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.data import atomic_numbers
from small_models import CUTOFF, cluster, small_model, small_spec

from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.runner import write_runner_potential
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model
from nnpkit.models.atomic_model import AtomicModel

UNITS = ("bohr-hartree", "angstrom-ev")


def assert_round_trip(model: AtomicModel, folder: Path, units: str = "bohr-hartree") -> LoadedModel:
    write_runner_potential(model, folder, units)
    again = load(folder)
    assert again.notes == []
    assert again.metadata["source"]["units"] == units
    original = LoadedModel(model, model_metadata(model), "")
    for structure in (cluster(), cluster(seed=8, periodic=False)):
        a, b = original.predict(structure), again.predict(structure)
        np.testing.assert_allclose(b.energies, a.energies, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(b.forces, a.forces, atol=1e-12 * np.abs(a.forces).max())
        np.testing.assert_allclose(b.virial, a.virial, atol=1e-12 * np.abs(a.virial).max())
    return again


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("scaling", ["none", "center", "minmax", "minmax_center", "sigma"])
def test_round_trip(tmp_path: Path, scaling: str, units: str) -> None:
    model = small_model(scaling)
    again = assert_round_trip(model, tmp_path / "potential", units)
    words = (tmp_path / "potential/input.nn").read_text()
    written = {
        "minmax": ["scale_symmetry_functions"],
        "minmax_center": ["scale_symmetry_functions", "center_symmetry_functions"],
        "center": ["center_symmetry_functions"],
        "sigma": ["scale_symmetry_functions_sigma"],
        "none": [],
    }
    assert [w for w in words.splitlines() if "_symmetry_functions" in w] == written[scaling]
    for name in ("minimum", "maximum"):  # the range of the data survives: it serves extrapolation warnings
        expected = getattr(model.scaling, name).flip(0)  # elements by atomic number
        assert torch.equal(getattr(again.atomic_model().scaling, name).sort(1)[0], expected.sort(1)[0])


@pytest.mark.parametrize("kind", ["hard", "cosine", "tanh3_normalized", "exponential", "poly1", "poly4"])
def test_cutoff_functions(tmp_path: Path, kind: str) -> None:
    inner = 0.25 if kind in ("cosine", "poly1", "poly4") else 0.0
    assert_round_trip(small_model(cutoff_kind=kind, cutoff_inner=inner), tmp_path / "potential")


def test_networks_of_different_width(tmp_path: Path) -> None:
    networks = {
        "O": {"hidden": [7, 4], "activations": ["softplus", "cosine", "linear"]},
        "H": {"hidden": [3, 6], "activations": ["softplus", "cosine", "linear"]},
    }
    assert_round_trip(small_model(networks=networks), tmp_path / "potential")
    assert "global_nodes_short 7 6" in (tmp_path / "potential/input.nn").read_text()


def test_features_that_the_scaling_ignores(tmp_path: Path) -> None:
    model = small_model("minmax")
    model.scaling.factor[0, 2] = 0.0  # constant in the data
    assert_round_trip(model, tmp_path / "potential")


def test_several_cutoffs(tmp_path: Path) -> None:
    functions = small_spec()["functions"]
    for k, function in enumerate(functions):
        function["cutoff"] = CUTOFF - 0.1 * (k % 5)
    assert_round_trip(small_model(functions=functions), tmp_path / "potential")


def test_the_energy_scale_is_in_the_weights(tmp_path: Path) -> None:
    again = assert_round_trip(
        small_model(energy_scale=3.3), tmp_path / "potential", "angstrom-ev"
    ).atomic_model()
    assert again.energy_scale == 1.0
    assert "conv_energy" not in (tmp_path / "potential/input.nn").read_text()


def test_order_is_that_of_n2p2(tmp_path: Path) -> None:
    write_runner_potential(small_model(), tmp_path / "potential")
    keys = []
    for line in (tmp_path / "potential/input.nn").read_text().splitlines():
        words = line.split()
        if words[:1] == ["symfunction_short"]:
            radial = words[2] == "2"
            neighbors = [atomic_numbers[e] for e in words[3 : 4 if radial else 5]]
            numbers = [float(x) for x in words[4 if radial else 5 :]]
            eta, shift, cutoff = numbers if radial else (numbers[0], *[*numbers[3:], 0.0][1::-1])
            angular = [] if radial else [numbers[2], numbers[1]]
            keys.append((atomic_numbers[words[1]], int(words[2]), cutoff, eta, shift, *angular, *neighbors))
    assert len(keys) == 24
    assert keys == sorted(keys)


def test_write_read_write(tmp_path: Path) -> None:
    write_runner_potential(small_model("sigma"), tmp_path / "a", "angstrom-ev")
    write_runner_potential(load(tmp_path / "a").atomic_model(), tmp_path / "b", "angstrom-ev")
    for name in ("input.nn", "weights.001.data", "weights.008.data"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()


# What is refused


def test_a_wall_cannot_be_expressed(tmp_path: Path) -> None:
    model = small_model(wall={"O-O": 2.0})
    with pytest.raises(InputError, match=r"short-range repulsion \(O-O below 2.00 Å\).*--without-wall"):
        write_runner_potential(model, tmp_path / "potential")
    assert list(tmp_path.iterdir()) == []
    write_runner_potential(model, tmp_path / "potential", without_wall=True)
    bare = load(tmp_path / "potential").predict(cluster(seed=6))
    walled = LoadedModel(model, model_metadata(model), "").predict(cluster(seed=6))
    assert walled.energy > bare.energy + 1e-3


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        ({"O": {"hidden": [4], "activations": ["tanh", "linear"]}}, "different depth"),
        ({"O": {"hidden": [4, 4], "activations": ["tanh", "cosine", "linear"]}}, "activation functions"),
        ({e: {"hidden": [4, 4], "activations": ["tanh"] * 3} for e in "OH"}, "output nodes are tanh"),
    ],
)
def test_networks_that_cannot_be_expressed(tmp_path: Path, networks: dict, words: str) -> None:
    model = build_model(small_spec(networks={**small_spec()["networks"], **networks}))
    with pytest.raises(InputError, match=words):
        write_runner_potential(model, tmp_path / "potential")
    assert list(tmp_path.iterdir()) == []


def test_units_by_name_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown units 'feet'"):
        write_runner_potential(small_model(), tmp_path / "potential", "feet")


def test_folders_with_other_things_are_left_alone(tmp_path: Path) -> None:
    write_runner_potential(small_model(seed=1), tmp_path / "a")
    write_runner_potential(small_model(seed=2), tmp_path / "a")  # only a potential: replaced
    (tmp_path / "a/input.data").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        write_runner_potential(small_model(seed=3), tmp_path / "a")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        write_runner_potential(small_model(seed=3), tmp_path / "file")
    assert (tmp_path / "a/input.data").read_text() == "mine"
