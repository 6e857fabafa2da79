"""Another package adds a family of models, an optimizer, a labeller and a format; nothing of ours is changed for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from foreign_package import install

FAMILY = '''
"""Models of one kind of feature: sums over neighbours of Gaussians of their distance, of any element."""

from typing import Literal

import torch
from nnpkit.data.graph import edge_centers
from nnpkit.families.contract import FixedDescriptorFamily
from nnpkit.families.shared_settings import NetworkModel
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.descriptor import Descriptor, EdgeJacobian
from nnpkit.section import Positive, Section
from pydantic import Field


class GaussianSettings(Section):
    """Gaussians."""

    cutoff: Positive = Field(4.0, description="Radius, A.")
    centers: list[float] = Field([1.0, 2.0, 3.0], description="Of the Gaussians, A.")


class GaussianModel(NetworkModel):
    """A potential of Gaussians."""

    kind: Literal["gaussians"] = Field("gaussians", description="Kind of the model.")
    descriptor: GaussianSettings = Field(GaussianSettings(), description="Gaussians.")


class Gaussians(Descriptor):
    def __init__(self, n_elements: int, cutoff: float, centers: list[float]) -> None:
        super().__init__(cutoff, [len(centers)] * n_elements)
        self.register_buffer("centers", torch.tensor(centers, dtype=torch.float64))

    def values(self, edge_vec):
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        weight = cutoff_function(r, self.cutoff, "cosine", 0.0).unsqueeze(1)
        return torch.exp(-((r.unsqueeze(1) - self.centers) ** 2)) * weight

    def forward(
        self, edge_vec: torch.Tensor, neighbor_type: torch.Tensor, offsets: torch.Tensor, types: torch.Tensor
    ) -> torch.Tensor:
        features = torch.zeros((types.shape[0], self.centers.shape[0]), dtype=torch.float64)
        return features.index_add(0, edge_centers(offsets), self.values(edge_vec))

    @torch.jit.unused
    def jacobian(self, edge_vec, neighbor_type, offsets, types):
        with torch.enable_grad():
            vectors = edge_vec.detach().requires_grad_(True)
            values = self.values(vectors)
            columns = [torch.autograd.grad(v.sum(), vectors, retain_graph=True)[0] for v in values.unbind(1)]
        features = self(edge_vec, neighbor_type, offsets, types)
        return features, EdgeJacobian(torch.stack(columns, dim=1), edge_centers(offsets))


class GaussianFamily(FixedDescriptorFamily):
    kind = "gaussians"
    settings = GaussianModel

    def parts(self, spec, elements):
        descriptor = Gaussians(len(elements), **spec["descriptor"])
        return descriptor, self.networks(spec, elements, descriptor)

    def describe(self, settings, data):
        return {"descriptor": settings.descriptor.model_dump()}, ["Gaussians as given"]


FAMILY = GaussianFamily()
'''

TRAIN = """
import json
from pathlib import Path
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
import nnpkit

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
print(json.dumps({"kind": model.metadata["kind"], "forces": [result.forces[0, 0], -slope]}))
"""

OPTIMIZER = '''
from typing import Literal

import torch
from nnpkit.measure.observations import Noise
from nnpkit.section import Positive, Section
from nnpkit.training.contract import OptimizerKind
from nnpkit.training.updates import GradientUpdate
from pydantic import Field


class Settings(Section):
    """Gradient descent with momentum."""

    kind: Literal["momentum"] = Field("momentum", description="Kind of the optimizer.")
    learning_rate: Positive = Field(0.01, description="Step.")


class Momentum(OptimizerKind):
    settings = Settings

    def update(self, task):
        observer = task.observe(Noise())
        descent = torch.optim.SGD(observer.parameters, lr=task.settings.learning_rate, momentum=0.9)
        return GradientUpdate(descent, observer, 1.0, 1.0, 100, None, task.ridge(observer), 1.0)


MOMENTUM = Momentum()
'''

LABELLER = '''
from typing import Literal

import numpy as np
from nnpkit.active.labellers.labeller_settings import LabellerSettings
from pydantic import Field


class Springs:
    """Every atom is bound to the origin."""

    class Settings(LabellerSettings):
        """Labels from springs."""

        kind: Literal["springs"] = Field("springs", description="Kind of the reference calculator.")
        strength: float = Field(1.0, description="eV/A^2.")

    def __init__(self, strength):
        self.strength, self.identity = strength, {"kind": "springs", "strength": strength}

    def require(self, state):
        pass

    def compute(self, structure, folder, changes):
        x = structure.positions
        return structure.replace(energy=0.5 * self.strength * float((x**2).sum()), forces=-self.strength * x)
'''

FORMAT = '''
from nnpkit.data.formats.contract import DataFormat
from nnpkit.data.structure import Structure


def read_dots(path, options):
    """Lines of an element and three coordinates."""
    words = [line.split() for line in path.read_text().splitlines()]
    return [Structure([w[0] for w in words], [[float(x) for x in w[1:]] for w in words], [[0.0] * 3] * 3, False)]


FORMAT = DataFormat("dots", read_dots, lambda path: path.suffix == ".dots", aliases=("points",))
'''


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
    ("optimizer", "epochs"), [({"kind": "ekf"}, 2), ({"kind": "adam", "learning_rate": 0.02}, 100)]
)
def test_a_family_of_another_package_trains_and_predicts(
    tmp_path: Path, optimizer: dict, epochs: int
) -> None:
    packages = install(tmp_path / "packages", {"nnpkit.families": "gaussians = foreign:FAMILY"}, FAMILY)
    result = run(training("gaussians", optimizer, epochs), tmp_path, packages)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["kind"] == "gaussians"
    assert found["forces"][0] == pytest.approx(found["forces"][1], rel=1e-5, abs=1e-7)
    assert abs(found["forces"][0]) > 1e-6


def test_an_optimizer_of_another_package_trains(tmp_path: Path) -> None:
    packages = install(tmp_path / "packages", {"nnpkit.optimizers": "momentum = foreign:MOMENTUM"}, OPTIMIZER)
    result = run(training("acsf", {"kind": "momentum", "learning_rate": 0.02}, 60), tmp_path, packages)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert abs(found["forces"][0]) > 1e-6
    errors = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert errors[-1]["train"]["force_rmse"] < 0.8 * errors[0]["train"]["force_rmse"]


def test_a_labeller_of_another_package_labels(tmp_path: Path) -> None:
    packages = install(tmp_path / "packages", {"nnpkit.labellers": "springs = foreign:Springs"}, LABELLER)
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
    packages = install(tmp_path / "packages", {"nnpkit.formats": "dots = foreign:FORMAT"}, FORMAT)
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
