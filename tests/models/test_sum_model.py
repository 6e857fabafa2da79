"""Sums of potentials: any correction to any baseline is what both say together, in memory and in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hop_family
import pytest
import torch
from test_charged_model import FAMILIES as DESCRIPTORS
from test_charged_model import make_model as charged_model
from test_charged_model import structure

from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model, initialise
from nnpkit.families.registered import FAMILIES
from nnpkit.models.sum_model import SumModel
from nnpkit.models.sum_potential import potential_of

NETWORK = {"hidden": [4], "activations": ["tanh", "linear"]}


@pytest.fixture(autouse=True)
def family(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family with stages, for these tests alone."""
    monkeypatch.setitem(FAMILIES._loaded, "hop", hop_family.HOP)


def model_of(kind: str, elements: tuple[str, ...] = ("H", "O"), seed: int = 3) -> Any:
    """A small model with random weights: of edges alone, with a stage before its last, with charges, or a sum."""
    if kind == "charged":
        return charged_model("third", seed=seed)
    if kind == "equilibrated":
        return charged_model("fourth", "deep_potential", seed=seed)
    if kind == "sum":
        return SumModel(model_of("plain", elements, 8), model_of("hop", elements[::-1], 9))
    own = DESCRIPTORS["acsf"] if kind == "plain" else {"descriptor": {"cutoff": 3.0}}
    model = build_model(
        {
            "kind": "acsf" if kind == "plain" else kind, "elements": list(elements),
            "networks": dict.fromkeys(elements, NETWORK), "wall": {"H-O": 1.4}, **own,
            "reference_energies": {e: -1.0 - n for n, e in enumerate(sorted(elements))},
        }
    )  # fmt: skip
    initialise(model, "xavier", seed)
    return model


def said_by(model: Any, s: Structure, chunk: int | None = None) -> Any:
    potential, graph = potential_of(model), build_graph(s, model.elements, model.cutoff)
    return potential(graph) if chunk is None else potential.predict(graph, chunk)


@pytest.mark.parametrize(
    ("correction", "baseline"),
    [
        ("plain", "plain"), ("hop", "plain"), ("plain", "hop"), ("hop", "hop"), ("charged", "plain"),
        ("plain", "equilibrated"), ("hop", "sum"),
    ],
)  # fmt: skip
def test_a_sum_is_the_sum(tmp_path: Path, correction: str, baseline: str) -> None:
    """Energies, forces, virial and charges, whole or in chunks, before and after a file; elements in any order."""
    own = model_of(correction)
    other = model_of(baseline, ("O", "H") if baseline in ("plain", "hop") else ("H", "O"), seed=5)
    s = structure()
    expected = [said_by(own, s), said_by(other, s)]
    model = SumModel(own, other)
    file = tmp_path / "model.pt"
    export_model(model, file, None, s)
    loaded = load(file).predict(s)
    for found in (said_by(model, s), said_by(model, s, 2)):
        for name in ("energy", "atomic_energy", "forces", "virial"):
            both = getattr(expected[0], name) + getattr(expected[1], name)
            torch.testing.assert_close(getattr(found, name), both, rtol=1e-11, atol=1e-11)
    assert loaded.energy == pytest.approx(float(found.energy), rel=1e-12)
    assert loaded.forces == pytest.approx(found.forces.numpy(), abs=1e-11)
    assert loaded.virial == pytest.approx(found.virial[0].numpy(), abs=1e-10)
    charges = [p.charges for p in expected if p.charges is not None]
    assert (loaded.charges is None) == (not charges)
    if charges:
        assert loaded.charges == pytest.approx(charges[0][0].numpy(), abs=1e-12)
    again = load(file).atomic_model()
    assert again.spec == model.spec
    assert not any(p.requires_grad for p in SumModel(model_of("plain"), again).baseline.parameters())


def test_what_has_no_sum_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both the potential and its baseline have charges"):
        SumModel(model_of("charged"), model_of("equilibrated"))
    with pytest.raises(InputError, match="charges and one with stages have no sum"):
        SumModel(model_of("charged"), model_of("hop"))
    with pytest.raises(InputError, match="knows H O but not S"):
        SumModel(_with_sulfur(), model_of("plain"))
    total = SumModel(model_of("hop"), model_of("plain"))
    with pytest.raises(InputError, match="member 1 has stages"):
        export_committee([total, total], [{}, {}], tmp_path / "committee.pt")


def _with_sulfur() -> Any:
    spec = {
        "kind": "hop", "elements": ["H", "S"], "networks": dict.fromkeys("HS", NETWORK),
        "reference_energies": {"H": 0.0, "S": 0.0}, "wall": None, "descriptor": {"cutoff": 3.0},
    }  # fmt: skip
    return build_model(spec)
