"""A term in a file of its own adds to any family: it is not learnt, and is the same everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hop_family
import numpy as np
import pytest
import tail_term
import torch
from ase import Atoms
from foreign_package import install
from harness import MEASURE, lmp, measured, random_structure, setup, write_data
from small_models import small_model
from test_cluster_expansion import make_model as expansion_model
from test_committee import deep_model
from test_entry_points import run
from test_lammps_stages import PLAIN, hop_model, slope

from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.fused import fused_potential
from nnpkit.deploy.load import load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.runner import write_runner_potential
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model
from nnpkit.families.registered import FAMILIES
from nnpkit.families.registered_terms import TERMS
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.models.potential import Potential

CELL = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]
TERM = {"strength": 30.0, "cutoff": 6.0}
KINDS = {
    "acsf": small_model,
    "deep": deep_model,
    "cluster": lambda: expansion_model(["O", "H"]),
    "hop": hop_model,
}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The term and the family of messages, for these tests alone."""
    monkeypatch.setitem(TERMS._loaded, "tail", tail_term.TAIL)
    monkeypatch.setitem(FAMILIES._loaded, "hop", hop_family.HOP)


def with_term(model: Any, **changes: float) -> Any:
    """The same model and the term."""
    other = build_model({**model.spec, "terms": {"tail": {**TERM, **changes}}})
    other.load_state_dict({**other.state_dict(), **model.state_dict()})
    return other


def atoms_of(seed: int = 5) -> Atoms:
    return random_structure(30, CELL, seed=seed)


def tail_of(atoms: Atoms) -> float:
    """The energy of the term, by sums over images."""
    factor = np.where(atoms.symbols == "O", 1.0, 1.5)
    shifts = np.array(list(np.ndindex(5, 5, 5))) - 2
    total = 0.0
    for shift in shifts @ atoms.cell[:]:
        r = np.linalg.norm(atoms.positions[None] + shift - atoms.positions[:, None], axis=2)
        x = np.clip((r / TERM["cutoff"] - 0.5) / 0.5, 0.0, 1.0)
        energy = -0.5 * TERM["strength"] * factor[:, None] * factor / (r**6 + 50.0)
        total += float((energy * (1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)))[r > 1e-6].sum())
    return total


def energy_of(model: Any, atoms: Atoms) -> float:
    structure = Structure(list(atoms.symbols), atoms.positions, atoms.cell[:], atoms.pbc)
    return float(Potential(model)(build_graph(structure, model.elements, model.cutoff)).energy)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_it_is_added_to_what_the_networks_say(tmp_path: Path, kind: str) -> None:
    model, atoms = KINDS[kind](), atoms_of()
    both = with_term(model)
    assert both.cutoff == 6.0
    assert energy_of(both, atoms) - energy_of(model, atoms) == pytest.approx(tail_of(atoms), rel=1e-10)
    export_model(both, tmp_path / "both.pt")
    result = load(tmp_path / "both.pt").predict(atoms)

    def moved(x: float) -> float:
        other = atoms.copy()
        other.positions[4, 1] += x
        return energy_of(both, other)

    assert result.energy == pytest.approx(energy_of(both, atoms), rel=1e-13)
    assert -slope(moved) == pytest.approx(result.forces[4, 1], rel=1e-6, abs=1e-8)


RUNS = [(kind, "", ranks) for kind in sorted(KINDS) for ranks in (1, 2)]
RUNS += [("acsf", "chunk 7", 2), ("acsf", "kernel torchscript", 2), ("cluster", "precision mixed", 2)]


@pytest.mark.parametrize(("kind", "options", "ranks"), RUNS)
def test_lammps_gives_the_same(lammps: None, tmp_path: Path, kind: str, options: str, ranks: int) -> None:
    atoms = atoms_of()
    export_model(with_term(KINDS[kind]()), tmp_path / "both.pt")
    atoms.calc = NnpkitCalculator(load(tmp_path / "both.pt"), kernel="torchscript")
    write_data(tmp_path / "data.lmp", atoms)
    pair = f"pair_style nnpkit {options}\npair_coeff * * both.pt O H\n"
    result = lmp(tmp_path, setup() + pair + (PLAIN if kind == "hop" else MEASURE), ranks)
    found, close = measured(result), 1e-6 if kind == "deep" else 1e-9  # tables of embedding networks
    close = 1e-4 if options == "precision mixed" else close
    assert ("fused" in result.output) == (kind != "hop" and options != "kernel torchscript")
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=close)
    assert found.forces == pytest.approx(atoms.get_forces(), rel=close, abs=close)
    stress = atoms.get_stress(voigt=False)
    six = [-stress[a, b] * atoms.get_volume() for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    assert found.virial == pytest.approx(six, rel=1e2 * close, abs=1e2 * close)


@pytest.mark.parametrize("same", [True, False])
def test_members_of_a_committee_have_it(lammps: None, tmp_path: Path, same: bool) -> None:
    atoms = atoms_of()
    members = [with_term(small_model(seed=s), strength=30.0 if same or s == 3 else 20.0) for s in (3, 5)]
    export_committee(members, [model_metadata(m) for m in members], tmp_path / "both.pt")
    expected = [energy_of(member, atoms) for member in members]
    write_data(tmp_path / "data.lmp", atoms)
    text = setup() + "pair_style nnpkit\npair_coeff * * both.pt O H\ncompute m all nnpkit member_energy\n"
    text += "thermo_style custom step pe c_m[*]\nrun 0\n"
    text += "".join(f"variable v{k} equal c_m[{k}]\nprint '@m{k} $(v_v{k}:%.17g)'\n" for k in (1, 2))
    result = lmp(tmp_path, text, 2)
    values = result.values()
    assert ("different terms" in result.output) == (not same)
    assert [values["m1"], values["m2"]] == pytest.approx(expected, rel=1e-12)
    predicted = load(tmp_path / "both.pt").predict(atoms, members=True)
    assert predicted.disagreement.member_energy == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["acsf", "cluster", "deep"])
def test_the_kernels_of_python_add_it(tmp_path: Path, kind: str) -> None:
    atoms = atoms_of()
    for model in (with_term(KINDS[kind]()), None):
        if model is not None:
            export_model(model, tmp_path / "both.pt")
        loaded = load(tmp_path / "both.pt")
        slow, fast = loaded.predict(atoms), loaded.predict(atoms, potential=fused_potential(loaded))
        assert fast.energy == pytest.approx(slow.energy, rel=1e-7)
        assert fast.forces == pytest.approx(slow.forces, abs=1e-6)


TRAIN = """
import json
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
import nnpkit
from tail import TAIL
from nnpkit.data.structure import Structure
from nnpkit.measure.frames import structure_terms
from nnpkit.units import stress_from_virial

term = TAIL.make({"strength": 30.0, "cutoff": 6.0}, ["Cu"])
for whole in (True, False):
    frames = []
    for seed in range(10):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        energy, forces, stress = (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False))
        if whole:
            own = structure_terms(term, Structure.without_labels(atoms), ["Cu"])
            energy, forces = energy + float(own.energy), forces + own.forces.numpy()
            stress = stress + stress_from_virial(own.virial[0].numpy(), atoms.get_volume())
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
        frames.append(atoms)
    name = "whole" if whole else "rest"
    write(f"{name}.xyz", frames)
    summary = nnpkit.train({
        "data": {"train": [f"{name}.xyz"], "validation_fraction": 0.2, "test_fraction": 0.0, "suspicious": "ignore",
                 "reference_energies": "none"},
        "output": name, "model": MODEL | ({"terms": {"tail": {}}} if whole else {}),
        "training": {"epochs": 2, "min_updates": 0, "optimizer": OPTIMIZER, "schedule": {"virial": True}},
    })
    model = nnpkit.load(name)
    weights = [float(v.double().sum()) for n, v in sorted(model.module.state_dict().items()) if "networks" in n]
    print(json.dumps({"errors": [summary["train"]["energy_rmse"], summary["train"]["force_rmse"]], "weights": weights,
                      "terms": list(model.metadata["spec"].get("terms", {}))}))
"""
CASES = {
    "acsf": ({"cutoff": 4.0, "radial": 2, "zetas": [1.0]}, {"kind": "ekf", "robust": False}),
    "deep_potential": ({"cutoff": 4.0, "embedding": [4], "axis_neurons": 2}, {"kind": "adam", "learning_rate": 0.01}),
}  # fmt: skip
"""Descriptor and optimizer; a robust filter looks at the size of labels, which are others."""


@pytest.mark.parametrize("family", sorted(CASES))
def test_networks_learn_what_it_leaves(tmp_path: Path, family: str) -> None:
    """Labels with the term, learnt by a model with it, give the weights that labels without it give.

    Files have forces with eight digits, which a filter makes larger differences of.
    """
    text = Path(tail_term.__file__).read_text(encoding="utf-8")
    packages = install(tmp_path / "packages", {"nnpkit.terms": "tail = tail:TAIL"}, text, "tail")
    descriptor, optimizer = CASES[family]
    model = {"kind": family, "descriptor": descriptor, "network": {"hidden": [3]}}
    code = TRAIN.replace("MODEL", repr(model)).replace("OPTIMIZER", repr(optimizer))
    result = run(code, tmp_path, packages)
    assert result.returncode == 0, result.stderr
    whole, rest = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
    assert (whole["terms"], rest["terms"]) == (["tail"], [])
    assert whole["weights"] == pytest.approx(rest["weights"], rel=1e-3, abs=1e-3)
    assert whole["errors"] == pytest.approx(rest["errors"], rel=1e-3)


def test_what_cannot_express_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"RuNNer's format cannot express .*\(tail\)"):
        write_runner_potential(with_term(small_model()), tmp_path / "runner")
    spec = {**small_model().spec, "terms": {"other": {}}}
    with pytest.raises(InputError, match="no term is called 'other'"):
        build_model(spec)


def test_no_atoms_have_no_energy() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    model = with_term(small_model())
    assert model(
        torch.zeros(0, 3, dtype=torch.float64), none, torch.zeros(1, dtype=torch.int64), none
    ).shape == (0,)
