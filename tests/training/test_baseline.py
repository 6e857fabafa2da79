"""Delta learning: what is subtracted from the labels comes back in every deployment; and transfer learning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from alloy import make_training
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read as ase_read
from ase.io import write as ase_write
from typer.testing import CliRunner

import nnpkit
from nnpkit.cli import main
from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.baseline import make_baseline, subtract
from nnpkit.deploy.load import load, load_checkpoint
from nnpkit.deploy.outside_baselines import AseBaseline, BaselineLabels, D3Baseline
from nnpkit.errors import InputError
from nnpkit.models.potential import Potential
from nnpkit.models.sum_potential import potential_of
from nnpkit.training.checkpoint import latest_checkpoint
from nnpkit.training.trainer import Trainer

YAML = """\
seed: 5
output: {output}
data: {{train: {data}, test_fraction: 0.25, baseline: {baseline}}}
model:
  descriptor: {{cutoff: 6.0, angular_cutoff: 5.0, zetas: [1], radial: 3}}
  network: {{hidden: [3]}}
training: {{epochs: 1, threads: 1}}
"""
LJ = "{kind: ase, calculator: lj, arguments: {sigma: 2.3, epsilon: 0.05, rc: 6.0}}"


def cli(*arguments: object):
    return CliRunner().invoke(main.app, [str(a) for a in arguments])


def train(
    output: str, baseline: str = "null", data: str = "train.extxyz", more: str = "", *arguments: object
):
    Path(f"{output}.yaml").write_text(YAML.format(output=output, baseline=baseline, data=data) + more)
    return cli("train", f"{output}.yaml", *arguments)


def keep_what_was_learnt(patch: pytest.MonkeyPatch) -> None:
    """An epoch of a few structures teaches little; the weights matter here, also those that are worse than none."""
    patch.setattr(Trainer, "_prefer_nothing", lambda _: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        keep_what_was_learnt(patch)
        path = tmp_path_factory.mktemp("baseline")
        patch.chdir(path)
        make_training(path)
        assert train("first").exit_code == 0
        result = train("with-lj", LJ)
        assert result.exit_code == 0, result.output
        assert "labels are less the baseline lj(" in result.output
        result = train("with-model", "{kind: model, file: first}")
        assert result.exit_code == 0, result.output
    return path


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    keep_what_was_learnt(monkeypatch)
    monkeypatch.chdir(folder)
    return folder


def numbers(model: str | Path, structure) -> tuple[float, np.ndarray, np.ndarray]:
    found = nnpkit.load(model).predict(structure)
    return found.energy, found.forces, found.stress


def test_expected_errors_are_those_of_the_corrected_potential(here) -> None:
    atoms = ase_read("train.extxyz", index=0)
    assert cli("export", "with-lj", "--uncertainty", 5, "-o", "errors.pt").exit_code == 0
    result = nnpkit.load("errors.pt").predict(atoms)
    np.testing.assert_allclose(result.forces, numbers("with-lj", atoms)[1], rtol=1e-12, atol=1e-12)
    assert result.disagreement.forces_std.max() > 0.0
    refused = cli("export", "with-model", "--uncertainty", 5, "-o", "no.pt")
    assert "the sum of a correction and its baseline" in " ".join(refused.output.split())
    assert not Path("no.pt").exists()


def test_a_potential_as_baseline_is_in_the_file(here) -> None:
    """The sum, from model.pt, from the checkpoint and after another export, without the file of the baseline."""
    atoms = ase_read("train.extxyz", index=0)
    checkpoint = latest_checkpoint("with-model")
    baseline = nnpkit.load("first").predict(atoms)
    Path("first").rename("elsewhere")
    try:
        assert cli("export", checkpoint, "-o", "again.pt").exit_code == 0
        for source, best in (("with-model", True), (checkpoint, False), ("again.pt", False)):
            own = load_checkpoint(checkpoint, best=best).module.correction
            graph = build_graph(Structure.from_atoms(atoms), own.elements, own.cutoff)
            correction = Potential(own).predict(graph)
            energy, forces, stress = numbers(source, atoms)
            assert energy == pytest.approx(float(correction.energy) + baseline.energy, abs=1e-9)
            np.testing.assert_allclose(forces, correction.forces.numpy() + baseline.forces, atol=1e-9)
            assert stress is not None
    finally:
        Path("elsewhere").rename("first")
    assert load("with-model").metadata["baseline"]["included"]


def test_corrections_and_baselines_may_have_charges_or_be_corrected(here) -> None:
    """Charges in one of them; what cannot be is said before anything is trained."""
    atoms = ase_read("train.extxyz", index=0)
    latent = "model.charges={generation: latent}"
    result = train("charged", "{kind: model, file: with-model}", "train.extxyz", "", latent)
    assert result.exit_code == 0, result.output
    own = load("charged").module.correction
    graph = build_graph(Structure.from_atoms(atoms), own.elements, own.cutoff)
    correction, baseline = potential_of(own).predict(graph), nnpkit.load("with-model").predict(atoms)
    energy, forces, _ = numbers("charged", atoms)
    assert energy == pytest.approx(float(correction.energy) + baseline.energy, abs=1e-9)
    np.testing.assert_allclose(forces, correction.forces.numpy() + baseline.forces, atol=1e-9)
    assert nnpkit.load("charged").predict(atoms).charges is not None
    refused = train("twice", "{kind: model, file: charged}", "train.extxyz", "", latent)
    assert refused.exit_code == 1
    assert "both the potential and its baseline have charges" in refused.stderr
    refused = train("of-lj", "{kind: model, file: with-lj}")
    assert "is a correction to lj(" in refused.stderr


def test_a_calculator_as_baseline_is_added_by_python(here) -> None:
    """`predict`, the ASE calculator and `evaluate` give whole energies; errors are those of the training."""
    atoms = ase_read("train.extxyz", index=0)
    potential = load("with-lj")
    energy, forces, stress = numbers("with-lj", atoms)
    potential.metadata["baseline"]["included"] = True  # as if it were whole: the correction alone
    correction = potential.predict(atoms)
    atoms.calc = LennardJones(sigma=2.3, epsilon=0.05, rc=6.0)
    assert energy == pytest.approx(correction.energy + atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(forces, correction.forces + atoms.get_forces(), atol=1e-9)
    np.testing.assert_allclose(stress, correction.stress + atoms.get_stress(voigt=False), atol=1e-9)
    atoms.calc = nnpkit.load("with-lj").calculator()
    assert atoms.get_potential_energy() == pytest.approx(energy)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-12)
    summary = json.loads(Path("with-lj/summary.json").read_text())
    assert cli("evaluate", "with-lj", "train.extxyz", "--json", "errors.json").exit_code == 0
    errors = json.loads(Path("errors.json").read_text())
    parts = [summary[p]["force_rmse"] ** 2 * summary[p]["n_atoms"] for p in ("train", "validation", "test")]
    assert errors["force_rmse"] == pytest.approx(np.sqrt(sum(parts) / errors["n_atoms"]), rel=1e-6)


def test_what_lammps_lacks_is_said(here) -> None:
    result = cli("export", "with-lj", "-o", "lj.pt")
    assert "in LAMMPS add it with pair_style hybrid/overlay" in result.stdout
    assert load("lj.pt").missing_baseline["spec"]["calculator"] == "lj"
    for arguments in ([], ["--dry-run"]):
        refused = cli("md", "lj.pt", "train.extxyz", "-o", "md", *arguments)
        assert refused.exit_code == 1
        assert "correction to lj(" in refused.stderr
    assert not Path("md").exists()
    refused = cli("convert", "lj.pt", "runner")
    assert "expected a whole potential" in refused.stderr
    assert "cannot express a potential of kind total" in cli("convert", "with-model", "runner").stderr


def test_the_report_compares_whole_energies(here) -> None:
    assert cli("report", "with-lj", "--fisher", 5).exit_code == 0
    data = json.loads(Path("with-lj/report.json").read_text())
    summary = json.loads(Path("with-lj/summary.json").read_text())
    assert data["errors"]["test"]["energy_rmse"] == pytest.approx(summary["test"]["energy_rmse"], rel=1e-6)
    assert data["notes"] == []
    assert "lj(" in Path("with-lj/report.html").read_text()


def test_resuming_and_going_on(here) -> None:
    assert train("more", LJ).exit_code == 0
    assert train("more", LJ, "train.extxyz", "", "training.epochs=2", "--resume").exit_code == 0
    other = train("more", LJ.replace("2.3", "2.4"), "train.extxyz", "", "--resume")
    assert "checkpoint is of another run" in other.stderr
    wrong = train("further", "null", "train.extxyz", "start: {run: with-lj}\n")
    assert "expected the same data.baseline" in wrong.stderr
    right = train("further", LJ, "train.extxyz", "start: {run: with-lj}\n")
    assert right.exit_code == 0, right.output


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("{kind: ase, calculator: nonsense}", "there is no calculator 'nonsense'"),
        ("{kind: ase, calculator: lj, arguments: {sigma: []}}", "lj"),
        ("{kind: model, file: nowhere}", "there is no such file or folder"),
        ("{kind: d3, s8: 0.8, a1: 0.4, a2: 4.4}", "knows no periodic structures"),
        ("{kind: other}", "baseline"),
    ],
)
def test_baselines_that_cannot_be(here, baseline: str, message: str) -> None:
    if "d3" in baseline:
        pytest.importorskip("tad_dftd3", reason="tad-dftd3 is optional")
    result = train("never", baseline)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("never").exists()


def test_a_baseline_of_other_elements(here) -> None:
    atoms = molecule("H2O")
    frames = []
    for n in range(4):
        atoms.rattle(0.01, seed=n)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms.copy())
        frames[-1].calc = atoms.calc
    ase_write("water.extxyz", frames)
    result = train("never", "{kind: model, file: first}", "water.extxyz")
    assert "the baseline knows Cu Au but not H O" in result.stderr


class InHartree(EMT):
    """A calculator that forgot to convert."""

    def calculate(self, *arguments, **options) -> None:
        super().calculate(*arguments, **options)
        for key in ("energy", "free_energy", "forces", "stress"):
            if key in self.results:
                self.results[key] = self.results[key] / 27.211386


def test_a_baseline_in_other_units(here) -> None:
    structures = [Structure.from_atoms(a) for a in ase_read("train.extxyz", index=":")]
    baseline = AseBaseline("emt")
    rest, notes = subtract(structures, baseline)
    assert max(np.abs(s.forces).max() for s in rest) < 1e-6  # the labels are those of EMT
    assert max(abs(s.energy) for s in rest) < 1e-6
    assert "leaves 0 % of the forces" in notes[1]
    baseline.calculator = InHartree()
    with pytest.raises(InputError, match="forces of the baseline look as if they were in hartree"):
        subtract(structures, baseline)


def test_d3_is_that_of_its_own_program() -> None:
    """Forces against differences of the energy; the energy is attractive and decays as the sixth power."""
    pytest.importorskip("tad_dftd3", reason="tad-dftd3 is optional")
    baseline = make_baseline({"kind": "d3", "s8": 0.7875, "a1": 0.4289, "a2": 4.4407})
    assert isinstance(baseline, D3Baseline)
    water = molecule("H2O")
    pair = Structure(
        [*water.symbols] * 2, np.vstack([water.positions, np.add(water.positions, [3.0, 0.4, 0.1])])
    )
    found = baseline.evaluate(pair)
    step, numeric = 1e-3, np.zeros((6, 3))
    for i in range(6):
        for k in range(3):
            sides = []
            for sign in (1, -1):
                positions = pair.positions.copy()
                positions[i, k] += sign * step
                sides.append(baseline.evaluate(pair.replace(positions=positions)).energy)
            numeric[i, k] = -(sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose(found.forces, numeric, atol=1e-6)
    alone = baseline.evaluate(Structure([*water.symbols], water.positions)).energy
    far = [
        baseline.evaluate(
            pair.replace(positions=np.vstack([water.positions, np.add(water.positions, [d, 0, 0])]))
        ).energy
        - 2 * alone
        for d in (10.0, 12.0)
    ]
    assert far[0] < far[1] < 0.0
    assert far[0] / far[1] == pytest.approx(1.2**6, rel=0.1)


# --- transfer learning --------------------------------------------------------------------------------------------


def weights(run: str) -> dict[str, torch.Tensor]:
    return dict(load(run).atomic_model().named_parameters())


@pytest.mark.parametrize(
    ("optimizer", "start"),
    [
        ("{kind: ekf}", "{run: first, freeze: [1]}"),
        ("{kind: adam}", "{run: first/model.pt, freeze: ['networks.networks.*.layers.0.*']}"),
        ("{kind: lbfgs}", "{run: first, freeze: [-2]}"),
    ],
)
def test_frozen_layers_stay(here, optimizer: str, start: str) -> None:
    settings = f"start: {start}\n".replace("'", '"')
    result = train(
        "tuned", "null", "train.extxyz", settings, f"training.optimizer={optimizer}", "--overwrite"
    )
    assert result.exit_code == 0, result.output
    assert "weights are frozen" in result.output
    before, after = weights("first"), weights("tuned")
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (".layers.0." in name), name


@pytest.mark.parametrize(
    ("start", "data", "message"),
    [
        ("{run: first, freeze: [7]}", "train.extxyz", "7 is no layer and no parameter"),
        ("{run: first, freeze: [0]}", "train.extxyz", "0 is no layer and no parameter"),
        ("{run: first, freeze: ['*']}", "train.extxyz", "nothing is left to train"),
        ("{run: first}", "silver.extxyz", "expected the same elements"),
        ("{run: first/model.pt}", "silver.extxyz", "expected the same elements"),
        ("{run: nowhere}", "train.extxyz", "there is no checkpoint"),
    ],
)
def test_what_cannot_be_tuned(here, start: str, data: str, message: str) -> None:
    frames = ase_read("train.extxyz", index=":")
    for atoms in frames:
        results = dict(atoms.calc.results)
        atoms.symbols[:] = "Ag"
        atoms.calc.atoms, atoms.calc.results = atoms.copy(), results
    ase_write("silver.extxyz", frames)
    result = train("never", "null", data, f"start: {start}\n".replace("'", '"'))
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.parametrize(("noise", "refused"), [(0.01, True), (0.2, False)])
def test_methods_whose_forces_differ_by_a_factor_are_not_units(noise: float, refused: bool) -> None:
    """Forces 1.8 times as large, at a correlation of 0.98, are another method's; at more than 0.99 another unit's."""
    random = np.random.default_rng(1)
    forces = random.normal(size=(200, 3))
    labels = (forces + noise * random.normal(size=(200, 3))) / 1.89
    structure = Structure(["Cu"] * 200, 10.0 * random.random((200, 3)), forces=labels)

    class Other:
        name = "another method"

        def evaluate(self, structure: Structure) -> BaselineLabels:
            return BaselineLabels(0.0, forces, None)

    if refused:
        with pytest.raises(InputError, match="eV/bohr"):
            subtract([structure], Other())
    else:
        assert subtract([structure], Other())[0][0].forces == pytest.approx(labels - forces)
