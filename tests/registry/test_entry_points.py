"""Another package adds a family of models, an optimizer, a labeller and a format, as the documentation says how."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from argon import needs_lammps
from foreign_package import install

PAGES = Path(__file__).parents[2] / "docs" / "howto"


def package(folder: Path, page: str) -> Path:
    """The package that a page of the documentation shows, installed into a folder."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    module, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ((group, name, value),) = re.findall(r'entry-points."(.*?)"\]\n(\w+) = "(.*?)"', text)
    return install(folder, {group: f"{name} = {value}"}, module)


@pytest.mark.parametrize("page", ["family", "format", "labeller", "term"])
def test_what_the_pages_show_passes_the_suites(tmp_path: Path, page: str) -> None:
    """With the tests that they show."""
    packages = package(tmp_path / "packages", page)
    _, tests = re.findall(
        r"```python\n(.*?)```", (PAGES / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "test_foreign.py").write_text(tests, encoding="utf-8")
    code = "import pytest; raise SystemExit(pytest.main(['-q', '-p', 'no:cacheprovider', 'test_foreign.py']))"
    result = run(code, tmp_path, packages)
    assert result.returncode == 0, result.stdout


TRAIN = """
import json
from pathlib import Path
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
import nnpkit
from nnpkit.families.factory import build_model, initialise

frames = []
for seed in range(8):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    frames.append(atoms)
write("train.xyz", frames)
settings = {
    "data": {"train": ["train.xyz"], "validation_fraction": 0.25}, "output": "run",
    "model": {"kind": KIND, "descriptor": {"cutoff": 3.5}, "network": {"hidden": [3]}},
    "training": {"epochs": EPOCHS, "min_updates": 0, "optimizer": OPTIMIZER},
}
summary = nnpkit.train(settings)
model = nnpkit.load("run")
result, moved = model.predict(frames[0]), frames[0].copy()
step = 1e-4
moved.positions[0, 0] += step
up = model.predict(moved).energy
moved.positions[0, 0] -= 2 * step
slope = (up - model.predict(moved).energy) / (2 * step)
fresh, trained = build_model(model.metadata["spec"]), model.atomic_model()
initialise(fresh, "xavier", 1)
pairs = zip(fresh.descriptor.parameters(), trained.descriptor.parameters(), strict=True)
print(json.dumps({
    "kind": model.metadata["kind"], "forces": [result.forces[0, 0], -slope],
    "error": summary["train"]["force_rmse"],
    "nothing": float(np.sqrt(np.mean([a.get_forces() ** 2 for a in frames]))),
    "moved": [float((a - b).abs().max()) for a, b in pairs],
}))
"""


def training(kind: str, optimizer: dict, epochs: int) -> str:
    """The script with these settings."""
    chosen = {"KIND": kind, "OPTIMIZER": optimizer, "EPOCHS": epochs}
    script = TRAIN
    for word, value in chosen.items():
        script = script.replace(word, repr(value))
    return script


def run(code: str, folder: Path, packages: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(packages), *sys.path[1:]])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("optimizer", "epochs"), [({"kind": "ekf"}, 2), ({"kind": "adam", "learning_rate": 0.02}, 5)]
)
def test_a_family_of_another_package_trains_and_predicts(
    tmp_path: Path, optimizer: dict, epochs: int
) -> None:
    packages = package(tmp_path / "packages", "family")
    result = run(training("gaussians", optimizer, epochs), tmp_path, packages)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["kind"] == "gaussians"
    assert found["forces"][0] == pytest.approx(found["forces"][1], rel=1e-5, abs=1e-7)
    assert abs(found["forces"][0]) > 1e-6


LEARNED = '''
from typing import ClassVar, Literal

import torch
from nnpkit.data.graph import edge_centers
from nnpkit.families.contract import Family
from nnpkit.families.shared_settings import ModelSettings, Network
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.descriptor import Descriptor
from nnpkit.section import Positive, Section
from pydantic import Field


class LearnedSettings(Section):
    """Functions of a distance."""

    cutoff: Positive = Field(4.0, description="Radius, A.")
    functions: int = Field(3, description="How many.")


class LearnedModel(ModelSettings):
    """A potential of functions of distances that are learnt."""

    trained_descriptor: ClassVar[bool] = True
    kind: Literal["learned"] = Field("learned", description="Kind of the model.")
    descriptor: LearnedSettings = Field(LearnedSettings(), description="Functions.")
    network: Network = Field(Network(), description="Networks.")


class Learned(Descriptor):
    def __init__(self, n_elements: int, cutoff: float, functions: int) -> None:
        super().__init__(cutoff, [functions] * n_elements)
        self.weight = torch.nn.Parameter(torch.zeros(functions, dtype=torch.float64))
        self.bias = torch.nn.Parameter(torch.zeros(functions, dtype=torch.float64))

    def forward(
        self, edge_vec: torch.Tensor, neighbor_type: torch.Tensor, offsets: torch.Tensor, types: torch.Tensor
    ) -> torch.Tensor:
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        smooth = cutoff_function(r, self.cutoff, "poly2", 0.0).unsqueeze(1)
        values = torch.tanh(r.unsqueeze(1) * self.weight + self.bias) * smooth
        features = torch.zeros((types.shape[0], self.weight.shape[0]), dtype=torch.float64)
        return features.index_add(0, edge_centers(offsets), values)


class LearnedFamily(Family):
    kind = "learned"
    settings = LearnedModel

    def parts(self, spec, elements):
        descriptor = Learned(len(elements), **spec["descriptor"])
        return descriptor, self.networks(spec, elements, descriptor)

    def describe(self, settings, data):
        return {"descriptor": settings.descriptor.model_dump()}, []

    def initialise(self, model, kind, generator):
        super().initialise(model, kind, generator)
        for parameter in model.descriptor.parameters():
            parameter.data.uniform_(-0.5, 0.5, generator=generator)


LEARNED = LearnedFamily()
'''

SAME = """
import nnpkit
from nnpkit.cli.main import app

model, start = nnpkit.load("run"), nnpkit.read("train.xyz")[0]
arguments = ["run/model.pt", "train.xyz@0", "--ensemble", "nve", "--temperature", "10", "--steps", "1", "--every", "1"]
try:
    app(["md", *arguments, "--ranks", "2", "-o", "md"])
except SystemExit as end:
    assert not end.code
lines = open("md/log.lammps").read().splitlines()
(head,) = [n for n, line in enumerate(lines) if line.split()[:1] == ["Step"]]
column = lines[head].split().index("PotEng")
print("energies", model.predict(start).energy, lines[head + 1].split()[column])
"""


@pytest.mark.parametrize(
    ("optimizer", "epochs"),
    [({"kind": "ekf"}, 3), ({"kind": "adam", "learning_rate": 0.02}, 60), ({"kind": "lbfgs"}, 10)],
    ids=["ekf", "adam", "lbfgs"],
)
def test_a_descriptor_with_weights_of_its_own_is_trained(
    tmp_path: Path, optimizer: dict, epochs: int
) -> None:
    packages = install(tmp_path / "packages", {"nnpkit.families": "learned = foreign:LEARNED"}, LEARNED)
    result = run(training("learned", optimizer, epochs), tmp_path, packages)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["forces"][0] == pytest.approx(found["forces"][1], rel=1e-5, abs=1e-7)
    assert found["error"] < 0.9 * found["nothing"]
    assert len(found["moved"]) == 2
    assert min(found["moved"]) > 1e-3


def test_such_a_family_runs_in_lammps_on_two_ranks(tmp_path: Path) -> None:
    needs_lammps()
    packages = install(tmp_path / "packages", {"nnpkit.families": "learned = foreign:LEARNED"}, LEARNED)
    result = run(training("learned", {"kind": "ekf"}, 1), tmp_path, packages)
    assert result.returncode == 0, result.stderr
    result = run(SAME, tmp_path, packages)
    assert result.returncode == 0, result.stderr
    words = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.strip()}
    own, lammps = map(float, words["energies"])
    assert lammps == pytest.approx(own, rel=1e-12)


def test_an_optimizer_of_another_package_trains(tmp_path: Path) -> None:
    packages = package(tmp_path / "packages", "optimizer")
    result = run(training("acsf", {"kind": "momentum", "learning_rate": 0.02}, 60), tmp_path, packages)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert abs(found["forces"][0]) > 1e-6
    errors = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert errors[-1]["train"]["force_rmse"] < 0.8 * errors[0]["train"]["force_rmse"]


def test_a_labeller_of_another_package_labels(tmp_path: Path) -> None:
    packages = package(tmp_path / "packages", "labeller")
    (tmp_path / "atoms.xyz").write_text("1\n\nCu 1.0 2.0 -2.0\n")
    (tmp_path / "reference.yaml").write_text(
        "reference: {kind: springs, strength: 0.5, limits: {net_force: 10.0}}\n"
    )
    arguments = ["label", "atoms.xyz", "--reference", "reference.yaml", "-o", "out.xyz"]
    code = f"from nnpkit.cli.main import app; app({arguments!r})"
    result = run(code, tmp_path, packages)
    assert result.returncode == 0, result.stderr
    check = run(
        "from nnpkit import read; s, = read('out.xyz'); print(s.energy, *s.forces[0])", tmp_path, packages
    )
    assert [float(x) for x in check.stdout.split()] == [2.25, -0.5, -1.0, 1.0]


def test_a_format_of_another_package_is_read(tmp_path: Path) -> None:
    packages = package(tmp_path / "packages", "format")
    (tmp_path / "a.dots").write_text("H 0 0 0\nH 0 0 0.74\n")
    (tmp_path / "a.txt").write_text("H 0 0 0\nH 0 0 0.74\n")
    code = "from nnpkit import read; print(len(read('a.dots')[0].symbols), len(read('a.txt', 'points')[0].symbols))"
    result = run(code, tmp_path, packages)
    assert result.stdout.split() == ["2", "2"], result.stderr


def test_a_broken_family_is_one_clear_error(tmp_path: Path) -> None:
    packages = install(
        tmp_path / "packages", {"nnpkit.families": "gaussians = foreign:FAMILY"}, "import nothing_at_all"
    )
    code = "from nnpkit.cli.main import run; import sys; sys.argv = ['nnpkit', 'schema']; run()"
    result = run(code, tmp_path, packages)
    assert result.returncode == 1
    assert result.stderr.startswith(
        "nnpkit: error: foreign:FAMILY: the family of models 'gaussians' of the package foreign"
    )
    assert len(result.stderr.splitlines()) == 1


def test_a_deploy_target_of_another_package_is_written(tmp_path: Path) -> None:
    packages = package(tmp_path / "packages", "target")
    source = Path(__file__).parents[1] / "deploy" / "earlier_models" / "acsf.pt"
    code = f"from nnpkit.cli.main import app; app(['convert', {str(source)!r}, 'a.card'])"
    result = run(code, tmp_path, packages)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "a card"
    assert json.loads((tmp_path / "a.card").read_text()) == {"elements": ["O", "H"], "cutoff": 4.5}


EXPLORE = """
import json, sys
from pathlib import Path
import numpy as np
from nnpkit.active.explore_worker import main, read_candidates
from nnpkit.active.explorers.runs import Condition, Exploration, prepare_run
from nnpkit.active.selection import Bounds
from nnpkit.config.schema_active import Exploration as Settings
from nnpkit.data.structure import Structure

assert Settings(engine="shake").engine == "shake"
water = Structure(["O", "H", "H"], np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), np.zeros((3, 3)), False)
exploration = Exploration(conditions=(Condition(steps=4),), engine="shake")
prepare_run(Path("run"), water, Condition(steps=4), exploration, Path(COMMITTEE), Bounds(0.0, 1e9, ""), None, seed=3)
main(Path("run"))
print(json.loads(Path("run/exploration.json").read_text())["ended"], len(read_candidates(Path("run"))))
"""


def test_an_explorer_of_another_package_explores(tmp_path: Path) -> None:
    packages = package(tmp_path / "packages", "explorer")
    committee = Path(__file__).parents[1] / "deploy" / "earlier_models" / "committee.pt"
    result = run(EXPLORE.replace("COMMITTEE", repr(str(committee))), tmp_path, packages)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["all", "steps", "done", "4"]
