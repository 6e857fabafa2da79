"""Every question of `nnpkit analyze`, on a potential that is trained in seconds; physics against closed forms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from alloy import make_training
from ase.calculators.calculator import Calculator, all_changes
from typer.testing import CliRunner

from nnpkit.analysis.cutoffs import freezing, hessian_decay
from nnpkit.analysis.force_errors import direction_errors, error_map, magnitude_errors
from nnpkit.analysis.predictions import contradictions
from nnpkit.cli import main
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

YAML = """\
seed: 5
output: run
data: {train: train.extxyz, test_fraction: 0.25}
model:
  descriptor: {cutoff: 6.0, angular_cutoff: 5.0, zetas: [1], radial: 3}
  network: {hidden: [3]}
training: {epochs: 1, threads: 1}
"""
PNG = b"\x89PNG\r\n\x1a\n"


def nnpkit(*arguments: object):
    return CliRunner().invoke(main.app, [str(a) for a in ("analyze", *arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("analyze")
        patch.chdir(path)
        make_training(path, YAML)
        assert CliRunner().invoke(main.app, ["train", "train.yaml"]).exit_code == 0
    return path


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "words", "keys"),
    [
        (["errors", "run", "train.extxyz"], "force vector RMSE", {"errors", "forces"}),
        (["contradictions", "run", "run", "train.extxyz"], "correlation of the errors", {"energy", "force"}),
        (["histograms", "train.extxyz"], "train.extxyz", {"train.extxyz"}),
        (["histograms", "train.extxyz", "--model", "run"], "Cu", {"train.extxyz Cu", "train.extxyz Au"}),
        (["fisher", "run", "--data", "train.extxyz", "--batches", 12], "log10_median", {"run"}),
        (["weights", "run"], "from the beginning", {"run"}),
        (
            ["sensitivity", "train.yaml", "0.001", "0.01", "-o", "s", "--key", "training.optimizer.initial_covariance"],
            "0.001", {"by", "rows"},
        ),
    ],
)  # fmt: skip
def test_questions(here, arguments: list[object], words: str, keys: set[str]) -> None:
    result = nnpkit(*arguments, "--json", "out.json", "--figure", "out.png")
    assert result.exit_code == 0, result.output
    assert words in result.stdout
    assert set(json.loads(Path("out.json").read_text())) == keys
    assert Path("out.png").read_bytes().startswith(PNG)


def test_extrapolation(here) -> None:
    assert nnpkit("extrapolation", "run", "train.extxyz", "--json", "e.json").exit_code == 0
    from ase.io import read, write

    squeezed = read("train.extxyz", index=0)
    squeezed.set_cell(squeezed.cell * 0.85, scale_atoms=True)
    write("squeezed.xyz", squeezed, format="extxyz")
    result = nnpkit("extrapolation", "run", "squeezed.xyz", "--json", "e.json")
    assert "1 of 1 structures" in result.stdout
    assert json.loads(Path("e.json").read_text())["features"][0]["largest"] > 0.0


def test_a_study_is_continued_and_nested(here) -> None:
    """Smaller sets are parts of larger ones, and complete trainings are not repeated."""
    from nnpkit.data.formats.reading import read
    from nnpkit.workflow.studies import learning_curve

    rows = learning_curve("train.yaml", [0.3, 1.0], "nested", overrides=["training.epochs=0"])
    small, large = ({s.energy for s in read(f"nested/data/train-{r['n_train']}-seed-5.xyz")} for r in rows)
    assert small < large
    times = [Path(r["folder"], "model.pt").stat().st_mtime_ns for r in rows]
    again = learning_curve("train.yaml", [0.3, 1.0], "nested", overrides=["training.epochs=0"])
    assert times == [Path(r["folder"], "model.pt").stat().st_mtime_ns for r in again]
    assert [r["test"] for r in rows] == [r["test"] for r in again]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cutoff", "train.extxyz", "--calculator", "emt", "--radii", "3,x"], "cannot read the numbers"),
        (["cutoff", "train.extxyz", "--calculator", "emt", "--radii", "30"], "no atom is farther than 30"),
        (["cutoff", "train.extxyz", "--calculator", "nonsense"], "there is no calculator 'nonsense'"),
        (["cutoff", "train.extxyz", "--calculator", "emt", "--center", "9"], "expected atoms from 0 to 3"),
        (["weights", "train.extxyz"], "there is no checkpoint"),
        (["learning-curve", "train.yaml", "-o", "x", "--fractions", "2"], "numbers above 0 and up to 1"),
        (
            ["learning-curve", "train.yaml", "-o", "x", "--set", "data.test_fraction=0"],
            "there is no test set",
        ),
    ],
)
def test_what_cannot_be_answered(here, arguments: list[str], message: str) -> None:
    result = nnpkit(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr


def test_distance_from_the_beginning_survives_an_interruption(here) -> None:
    from nnpkit.analysis.weights import distance_curve, weight_change

    train = CliRunner()
    assert train.invoke(main.app, ["train", "train.yaml", "output=two", "training.epochs=2"]).exit_code == 0
    assert train.invoke(main.app, ["train", "train.yaml", "output=one"]).exit_code == 0
    resumed = train.invoke(main.app, ["train", "train.yaml", "output=one", "training.epochs=2", "--resume"])
    assert resumed.exit_code == 0
    np.testing.assert_array_equal(distance_curve("one"), distance_curve("two"))
    assert distance_curve("one")[1][0] == 0.0
    change = weight_change("one")
    assert np.isclose(change.distance, distance_curve("one")[1], rtol=1e-12).any()


def test_angles() -> None:
    label = np.array([[1.0, 0, 0], [0, 2.0, 0], [1, 0, 0], [0, 0, 3], [1, 1, 1]])
    predicted = np.array([[0.5, 0, 0], [3.0, 0, 0], [1, 1e-9, 0], [0, 0, -1], [0, 0, 0]])
    found = direction_errors(predicted, label)
    np.testing.assert_allclose(found[:4], [0.0, 90.0, np.degrees(1e-9), 180.0], rtol=1e-6)
    assert np.isnan(found[4])
    np.testing.assert_allclose(magnitude_errors(predicted, label)[:4], [-0.5, 1.0, 0.0, -2.0], atol=1e-9)
    errors, summary = error_map(predicted, label, bins=(3, 4), largest=3.0)
    assert errors.frequency.sum() == pytest.approx(1.0)
    assert summary["n_atoms"] == 5
    assert error_map(np.zeros((0, 3)), np.zeros((0, 3)))[1]["force_mae"] is None


def test_contradictory_data_stand_out() -> None:
    random = np.random.default_rng(4)
    first, second = random.normal(size=(2, 200))
    first[[3, 8]], second[[3, 9]] = 12.0, 11.0
    found, correlation = contradictions(first, second)
    assert found.tolist() == [3]
    assert 0.0 < correlation < 0.7
    assert contradictions(np.full(4, np.nan), np.ones(4)) == (pytest.approx(np.zeros(0)), None)


class Chain(Calculator):
    """Springs between all atoms with a strength that decays as a power of their distance."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("forces",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        apart = x[:, None] - x[None]
        distance = np.linalg.norm(apart, axis=2) + np.eye(len(x))
        size = (distance**-4.0) * (1 - np.eye(len(x)))  # V = -1/3 sum r^-3: attraction 1/r^4
        self.results = {"energy": 0.0, "forces": -(apart / distance[..., None] * size[..., None]).sum(1)}


def test_interactions_fall_off_as_they_should() -> None:
    line = Structure(["Cu"] * 9, np.outer(np.arange(9) * 2.0, [1.0, 0, 0]), name="line")
    decay = hessian_decay(line, Chain(), [0], step=1e-4)
    np.testing.assert_allclose(decay.distance, np.arange(1, 9) * 2.0)
    along, across = 4.0 * decay.distance**-5.0, decay.distance**-5.0  # dF/dr and F/r
    np.testing.assert_allclose(decay.strength, np.sqrt(along**2 + 2 * across**2), rtol=1e-5)
    assert np.all(np.diff(decay.remaining) < 0.0)
    assert decay.remaining[-1] == 0.0
    noise = freezing(line, Chain(), [3.0, 5.0, 9.0], [0], samples=40, displacement=0.02)
    assert noise.moved.tolist() == [7, 6, 4]
    expected = [
        np.sqrt(np.sum(decay.strength[decay.distance > r] ** 2) / 3) * 0.02 * np.sqrt(3) for r in noise.radius
    ]
    np.testing.assert_allclose(noise.force_std, expected, rtol=0.25)
    with pytest.raises(InputError, match="no atom is farther"):
        freezing(line, Chain(), [50.0])
