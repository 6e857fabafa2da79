"""Reading DeePMD models: DeePMD-kit's own numbers, and a plain evaluation with padded lists, are the judges."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from deepmd_by_hand import atomic_energies, random_model
from small_models import cluster
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.imports.deepmd_potential import deepmd_model, read_deepmd_potential
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.models.potential import Potential


@pytest.fixture(scope="module")
def oracle() -> Path:
    data = os.environ.get("NNPKIT_DATA")
    if not data:
        pytest.skip("NNPKIT_DATA is not set")
    return Path(data) / "oracles" / "deepmd_se_e2_a"


@pytest.fixture(scope="module")
def cases(oracle) -> list[tuple[Structure, dict]]:
    """Structures with what DeePMD-kit says about them."""
    content = yaml.safe_load((oracle / "deeppot-testcase.yaml").read_text())
    found = []
    for case in content["results"]:
        symbols = [content["type_map"][t] for t in case["atype"]]
        cell = np.zeros((3, 3)) if case["box"] is None else np.reshape(case["box"], (3, 3))
        found.append(
            (Structure(symbols, np.reshape(case["coord"], (-1, 3)), cell, case["box"] is not None), case)
        )
    return found


@pytest.mark.parametrize("number", [0, 1, 2], ids=["periodic", "open", "other box"])
def test_oracle(oracle, cases, number):
    model = read_deepmd_potential(oracle / "deeppot_sea.yaml").model
    structure, expected = cases[number]
    graph = build_graph(structure, model.elements, model.cutoff)
    prediction = Potential(model)(graph)
    np.testing.assert_allclose(prediction.atomic_energy, expected["atomic_energy"], atol=1e-10, rtol=0)
    np.testing.assert_allclose(prediction.forces.flatten(), expected["force"], atol=1e-9, rtol=0)
    edge_vec = edge_vectors(graph).requires_grad_(True)
    inputs = (edge_vec, graph.types[graph.neighbor], graph.offsets, graph.types)
    (gradient,) = torch.autograd.grad(model(*inputs).sum(), edge_vec)
    # DeePMD-kit gives the virial of an edge to the neighbour, force index first
    virial = torch.zeros(len(graph.types), 3, 3, dtype=torch.float64)
    virial.index_add_(0, graph.neighbor, -gradient.unsqueeze(2) * edge_vec.detach().unsqueeze(1))
    np.testing.assert_allclose(virial.flatten(), expected["atomic_virial"], atol=1e-9, rtol=0)
    if "descriptor" in expected:
        np.testing.assert_allclose(
            model.features(*inputs).detach().flatten(), expected["descriptor"], atol=1e-12, rtol=0
        )
        assert float(prediction.energy) == pytest.approx(-929.7371700503966, abs=1e-10)


def test_converted_oracle(oracle, cases, tmp_path):
    result = CliRunner().invoke(
        app, ["convert", str(oracle / "deeppot_sea.yaml"), str(tmp_path / "model.pt")]
    )
    assert result.exit_code == 0, result.output
    assert "46 O, 92 H" in result.output
    assert "deep_potential potential for O H, cutoff 6 Å" in result.output
    model = load(tmp_path / "model.pt")
    for structure, expected in cases:
        prediction = model.predict(structure)
        np.testing.assert_allclose(prediction.energies, expected["atomic_energy"], atol=1e-10, rtol=0)
        np.testing.assert_allclose(prediction.forces.ravel(), expected["force"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("one_side", [True, False])
@pytest.mark.parametrize("timestep", [True, False])
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_pairs_and_timesteps(tmp_path, one_side, timestep, suffix):
    data = random_model(one_side, timestep)
    path = tmp_path / f"model{suffix}"
    path.write_text(json.dumps(data) if suffix == ".json" else yaml.safe_dump(data))
    model, structure = load(path), cluster()
    graph = build_graph(structure, ["O", "H"], 4.5)
    vectors, types = edge_vectors(graph).numpy(), graph.types.numpy()
    parts = [slice(int(a), int(b)) for a, b in zip(graph.offsets[:-1], graph.offsets[1:], strict=True)]
    neighbor_types = types[graph.neighbor.numpy()]
    counts = [np.bincount(neighbor_types[p], minlength=2) for p in parts]
    assert np.all(np.max(counts, axis=0) <= [30, 40])
    expected = atomic_energies(data, [vectors[p] for p in parts], [neighbor_types[p] for p in parts], types)
    np.testing.assert_allclose(model.predict(structure).energies, expected, rtol=1e-13)
    model.save(tmp_path / "model.pt")
    np.testing.assert_allclose(load(tmp_path / "model.pt").predict(structure).energies, expected, rtol=1e-13)


def test_numpy_arrays_in_the_mapping():
    def as_arrays(node):
        if isinstance(node, dict):
            if node.get("@class") == "np.ndarray":
                return np.array(node["value"])
            return {k: as_arrays(v) for k, v in node.items()}
        return [as_arrays(v) for v in node] if isinstance(node, list) else node

    written, arrays = deepmd_model(random_model()).model, deepmd_model(as_arrays(random_model())).model
    for a, b in zip(written.state_dict().values(), arrays.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("model", "type"), "zbl", "a model of type 'zbl' cannot be imported"),
        (("model", "descriptor", "type"), "dpa1", "a descriptor of type 'dpa1'"),
        (("model", "fitting", "type"), "dipole", "a fitting network of type 'dipole'"),
        (("model", "pair_exclude_types"), [[0, 1]], "excluded types"),
        (("model", "descriptor", "exclude_types"), [[0, 1]], "excluded types"),
        (("model", "descriptor", "env_protection"), 0.1, "env_protection 0.1"),
        (("model", "fitting", "numb_fparam"), 2, "frame or atom parameters"),
        (("model", "fitting", "mixed_types"), True, "one fitting network"),
        (("model", "fitting", "atom_ener"), [-1.0, None], "atom_ener"),
        (("model", "fitting", "activation_function"), "gelu", "activation function 'gelu'"),
        (("model", "type_map"), ["O", "Water"], "type 'Water' is no chemical element"),
        (("model", "type_map"), ["O"], "damaged"),
        (("model", "descriptor", "sel"), [3, 4], "davg of shape"),
        (("model", "descriptor", "neuron"), [2, 4], "damaged"),
        (("model", "descriptor", "neuron"), [2, 4, 8], "an array of shape"),
        (("model", "descriptor"), None, "no serialised DeePMD model"),
        (("model",), 3, "no serialised DeePMD model"),
        (("model", "fitting", "resnet_dt"), False, "idt does not fit"),
        (("model", "descriptor", "embeddings", "networks"), [], "no serialised DeePMD model"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_named(keys, value, message):
    data = deepcopy(random_model())
    node = data
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    with pytest.raises(InputError) as caught:
        deepmd_model(data, "model.yaml")
    assert str(caught.value).startswith("model.yaml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_statistics_that_differ_between_slots_are_refused():
    data = random_model()
    data["model"]["descriptor"]["@variables"]["davg"]["value"][0][3][0] += 0.1
    with pytest.raises(InputError, match="differs between neighbours"):
        deepmd_model(data)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.yaml", "model: [", "the file is damaged"),
        ("model.json", "{", "the file is damaged"),
        ("model.yaml", "training: {}", "no serialised DeePMD model"),
        ("model.yaml", "- 1", "no serialised DeePMD model"),
        ("model.yaml", "", "no serialised DeePMD model"),
        ("model.dp", "", "HDF5"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    result = CliRunner().invoke(app, ["convert", str(tmp_path / name), str(tmp_path / "out.pt")])
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.pt").exists()


def test_runner_cannot_express_it(tmp_path):
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(random_model()))
    load(tmp_path / "model.yaml").save(tmp_path / "model.pt")
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "model.pt"), str(tmp_path / "folder")])
    assert result.exit_code == 1
    assert "cannot express a potential of kind deep_potential" in result.stderr
    assert not (tmp_path / "folder").exists()
