"""Committees whose members have charges: a file, its mean, how far members are apart, what is refused."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from test_charged_model import make_model, structure

from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.models.sum_potential import potential_of


def committee_file(path: Path, members: list[Any]) -> LoadedModel:
    """The members as a file, loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_committee(members, [model_metadata(member) for member in members], path)
        return load(path)


def single(member: Any) -> LoadedModel:
    """A member by itself."""
    return LoadedModel(member.requires_grad_(False), model_metadata(member), "member")


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_mean_and_disagreement_are_those_of_members_with_their_own_charges(
    tmp_path: Path, generation: str
) -> None:
    members = [make_model(generation, seed=seed) for seed in (4, 5, 6)]
    committee = committee_file(tmp_path / "committee.pt", members)
    assert committee.n_members == 3
    s = structure(total_charge=1.0)
    found, each = committee.predict(s), [single(member).predict(s) for member in members]
    for name in ("energy", "energies", "forces", "virial", "charges"):
        expected = np.mean([getattr(one, name) for one in each], axis=0)
        assert getattr(found, name) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    charges = np.array([one.charges for one in each])
    assert charges.std(0).max() > 0.05
    spread = found.disagreement
    assert spread is not None
    assert spread.charges_std == pytest.approx(charges.std(0), abs=1e-12)
    assert spread.member_energy == pytest.approx([one.energy for one in each], rel=1e-12)
    assert spread.member_forces == pytest.approx(np.array([one.forces for one in each]), abs=1e-12)
    assert found.charges.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_calculator_has_the_disagreement_of_charges_and_a_copy_is_the_same(tmp_path: Path) -> None:
    members = [make_model("fourth", seed=seed) for seed in (4, 5)]
    committee = committee_file(tmp_path / "committee.pt", members)
    s = structure()
    results = []
    for model in (committee, pickle.loads(pickle.dumps(committee))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = Atoms(s.symbols, s.positions, cell=s.cell, pbc=s.pbc, calculator=NnpkitCalculator(model))
        atoms.get_forces()
        results.append(atoms.calc.results)
    expected = committee.predict(s).disagreement
    assert results[0]["charges_std"] == pytest.approx(expected.charges_std)
    assert results[0]["forces_std"] == pytest.approx(expected.forces_std)
    for name, value in results[0].items():
        np.testing.assert_array_equal(results[1][name], value)


def test_several_charges_of_an_atom_have_no_disagreement(tmp_path: Path) -> None:
    members = [make_model("latent", channels=2, seed=seed) for seed in (4, 5)]
    found = committee_file(tmp_path / "committee.pt", members).predict(structure())
    assert found.charges is None
    assert found.disagreement.charges_std is None


def test_features_are_those_of_members_that_differ(tmp_path: Path) -> None:
    s = structure()
    for family, n in (("acsf", 1), ("cluster_expansion", 2)):
        members = [make_model("latent", family, seed=seed) for seed in (4, 5)]
        for k, member in enumerate(members):
            member.scaling.minimum.fill_(-1.0 - k)
            member.scaling.maximum.fill_(1.0 + k)
        committee = committee_file(tmp_path / "committee.pt", members)
        alone = [single(member).features(s) for member in members]
        np.testing.assert_allclose(committee.features(s), np.concatenate(alone[:n], axis=1))
        lowest = committee.metadata["feature_ranges"]["H"]["min"]
        assert min(lowest) == pytest.approx(-1.1 * n)
        assert committee.metadata["members"][0]["feature_ranges"]["H"]["min"][0] == pytest.approx(-1.1)
        assert (committee.metadata["members"][1]["feature_ranges"] is None) == (n == 1)


def test_engines_have_every_member(tmp_path: Path) -> None:
    from nnpkit.engines.evaluation import BatchEvaluator

    members = [make_model("third", seed=seed) for seed in (4, 5)]
    committee, s = committee_file(tmp_path / "committee.pt", members), structure()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = BatchEvaluator(committee)
    found, expected = evaluator.members(s), [single(member).predict(s) for member in members]
    assert found is not None
    assert found.energy.numpy() == pytest.approx([one.energy for one in expected])
    assert found.virial.numpy() == pytest.approx(np.array([one.virial for one in expected]))
    both = evaluator.predict([s, s])
    assert both.energy.numpy() == pytest.approx([committee.predict(s).energy] * 2)


def test_what_is_no_committee_with_charges_is_refused(tmp_path: Path) -> None:
    charged = make_model("latent")
    plain = build_model({**charged.spec, "kind": charged.spec["family"]})
    cases = [
        ([charged, plain], [{}, {}], "member 2 has no charges"),
        ([charged, make_model("latent", channels=2)], [{}, {}], "the members have 1 and 2 charges"),
        ([charged, charged], [{}, {"drawn": True}], "was drawn around another potential"),
    ]
    for members, more, words in cases:
        metadata = [{**model_metadata(m), **own} for m, own in zip(members, more, strict=True)]
        with pytest.raises(InputError, match=words):
            export_committee(members, metadata, tmp_path / "committee.pt")


def test_an_altered_member_fails_its_self_test(tmp_path: Path) -> None:
    from nnpkit.deploy.targets import charged_file

    members = [make_model("third", seed=seed) for seed in (4, 5)]
    told = charged_file._answers

    def other(model: Any, s: Any) -> Any:
        found = told(model, s)
        return {**found, "charges": found["charges"] + 1e-6} if model is members[1] else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charged_file, "_answers", other)
        export_committee(members, [model_metadata(m) for m in members], tmp_path / "committee.pt")
    with pytest.raises(InputError, match=r"member 2.*fails its self-test"):
        load(tmp_path / "committee.pt")


def test_the_mean_is_differentiable() -> None:
    from nnpkit.data.graph import build_graph
    from nnpkit.models.committee_potential import ChargedCommittee

    members = [make_model("fourth", seed=seed) for seed in (4, 5)]
    potential = potential_of(ChargedCommittee(members, [0]))
    graph = build_graph(structure(), members[0].elements, members[0].cutoff)
    slow, fast = potential(graph), potential.predict(graph)
    assert slow.forces.detach().numpy() == pytest.approx(fast.forces.numpy(), abs=1e-11)
