"""committee.pt: the mean of the members, their disagreement, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_models import cluster, small_model, small_spec
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model, initialise
from nnpkit.models.atomic_model import AtomicModel

SEEDS = (3, 4, 5)


def deep_model() -> AtomicModel:
    """A potential with another kind of descriptor and another cutoff."""
    descriptor = {"cutoff": 3.9, "smooth_from": 1.5, "cutoff_kind": "poly2", "embedding": [3, 6]}
    spec = {key: small_spec()[key] for key in ("elements", "energy_scale", "reference_energies")}
    network = {"hidden": [6, 6], "activation": "tanh", "timestep": True}
    model = build_model(
        {**spec, "kind": "deep_potential", "networks": dict.fromkeys("OH", network), "wall": {},
         "descriptor": {**descriptor, "axis_neurons": 2, "one_side": False}}
    )  # fmt: skip
    initialise(model, "xavier", 1)
    return model


def write_committee(path: Path, members: list[AtomicModel]) -> LoadedModel:
    export_committee(members, [model_metadata(m) for m in members], path)
    return load(path)


def write_members(folder: Path, members: list[AtomicModel]) -> list[LoadedModel]:
    for index, member in enumerate(members):
        export_model(member, folder / f"{index}.pt")
    return [load(folder / f"{index}.pt") for index in range(len(members))]


@pytest.mark.parametrize("mixed", [False, True])
def test_mean_and_disagreement_are_those_of_the_members(tmp_path: Path, mixed: bool) -> None:
    members = [small_model(seed=seed) for seed in SEEDS] + ([deep_model()] if mixed else [])
    committee, structure = write_committee(tmp_path / "committee.pt", members), cluster()
    assert committee.n_members == len(members)
    single = [m.predict(structure) for m in write_members(tmp_path, members)]
    found = committee.predict(structure, atoms_per_chunk=4)
    energies, forces = np.array([r.energy for r in single]), np.array([r.forces for r in single])
    assert found.energy == pytest.approx(energies.mean(), rel=1e-13)
    np.testing.assert_allclose(found.forces, forces.mean(0), atol=1e-11)
    np.testing.assert_allclose(found.virial, np.mean([r.virial for r in single], axis=0), atol=1e-10)
    spread = found.disagreement
    assert spread is not None
    assert spread.energy_std == pytest.approx(energies.std() / structure.n_atoms, rel=1e-9)
    by_hand = np.sqrt(sum(((f - forces.mean(0)) ** 2).sum(1) for f in forces) / len(forces))
    np.testing.assert_allclose(spread.forces_std, by_hand, atol=1e-11)
    ordered = np.sort(by_hand)
    assert spread.forces_std_percentile(50) == pytest.approx(ordered[int(np.ceil(len(ordered) / 2)) - 1])
    assert committee.predict(structure, members=False).disagreement is None


def test_calculator_reports_the_disagreement(tmp_path: Path) -> None:
    from nnpkit.md.calculator import NnpkitCalculator

    committee = write_committee(tmp_path / "committee.pt", [small_model(seed=seed) for seed in SEEDS])
    atoms = cluster().to_atoms()
    atoms.calc = NnpkitCalculator(committee)
    expected = committee.predict(Structure.from_atoms(atoms, name="a"))
    assert atoms.get_potential_energy() == pytest.approx(expected.energy)
    assert expected.disagreement is not None
    assert atoms.calc.results["energy_std"] == pytest.approx(expected.disagreement.energy_std)
    np.testing.assert_allclose(atoms.calc.results["forces_std"], expected.disagreement.forces_std, atol=1e-12)


def test_equal_functions_have_one_common_range(tmp_path: Path) -> None:
    members = [small_model(seed=seed) for seed in SEEDS]
    ranges = write_committee(tmp_path / "committee.pt", members).metadata["feature_ranges"]["O"]
    own = [model_metadata(m)["feature_ranges"]["O"] for m in members]
    assert ranges["min"] == np.max([r["min"] for r in own], axis=0).tolist()
    assert ranges["max"] == np.min([r["max"] for r in own], axis=0).tolist()


def test_different_functions_stand_side_by_side(tmp_path: Path) -> None:
    spec = small_spec()
    other = small_model(seed=6, functions=[f for f in spec["functions"] if f["kind"] != "G9"])
    committee = write_committee(tmp_path / "committee.pt", [small_model(), other])
    own = [model_metadata(m)["feature_ranges"]["H"] for m in (small_model(), other)]
    ranges = committee.metadata["feature_ranges"]["H"]
    assert ranges["min"] == own[0]["min"] + own[1]["min"]
    import torch

    nothing = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    features = committee.module.features(*nothing, torch.zeros(2, dtype=torch.int64), torch.tensor([1]))
    assert features.shape == (1, len(ranges["min"]))


def test_trained_features_have_no_ranges(tmp_path: Path) -> None:
    committee = write_committee(tmp_path / "committee.pt", [small_model(), deep_model()])
    assert committee.metadata["feature_ranges"] is None
    assert committee.cutoff == max(small_model().cutoff, deep_model().cutoff)


def test_other_elements_are_refused(tmp_path: Path) -> None:
    other = small_model(seed=4, elements=["H", "O"])
    with pytest.raises(InputError, match=r"member 2 knows H O, member 1 knows O H"):
        write_committee(tmp_path / "committee.pt", [small_model(), other])
    assert not (tmp_path / "committee.pt").exists()
    with pytest.raises(InputError, match="at least two members"):
        write_committee(tmp_path / "committee.pt", [small_model()])


def test_a_committee_is_no_single_potential(tmp_path: Path) -> None:
    committee = write_committee(tmp_path / "committee.pt", [small_model(), small_model(seed=4)])
    with pytest.raises(InputError, match="this is a committee"):
        committee.atomic_model()
    committee.save(tmp_path / "copy.pt")
    assert (tmp_path / "copy.pt").read_bytes() == (tmp_path / "committee.pt").read_bytes()


def test_command(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{index}.pt") for index in range(2)]
    write_members(tmp_path, [small_model(), small_model(seed=4)])
    output = str(tmp_path / "c.pt")
    result = CliRunner().invoke(app, ["export", "--committee", *paths, "-o", output])
    assert result.exit_code == 0, result.stderr
    assert "committee of 2 for O H" in result.stdout
    assert load(output).n_members == 2
    refused = CliRunner().invoke(app, ["export", *paths, "-o", output])
    assert refused.exit_code == 1
