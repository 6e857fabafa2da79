"""`nnpkit.train`, `nnpkit.read` and `nnpkit.load`: the three functions, one after the other."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from alloy import CONFIG, write_alloy
from runner_by_hand import HandPotential

import nnpkit
from nnpkit.errors import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    write_alloy(folder / "train.extxyz")
    settings = yaml.safe_load(CONFIG)
    settings["output"] = str(folder / "run")
    settings["data"]["train"] = str(folder / "train.extxyz")
    settings["training"]["epochs"] = 1
    summary = nnpkit.train(settings)
    assert summary["epochs"] == 1
    return folder / "run"


def test_train_read_load_predict(run: Path) -> None:
    structures = nnpkit.read(run.parent / "train.extxyz")
    model = nnpkit.load(run)
    results = model.predict(structures)
    assert len(results) == len(structures)
    assert all(r.forces.shape == s.forces.shape for r, s in zip(results, structures, strict=True))
    assert set(model.metadata["min_distance"]) == {"Cu-Cu", "Au-Cu", "Au-Au"}


def test_features_are_what_the_descriptor_says(run: Path) -> None:
    """Those of the training data lie within the ranges that the model file states, a twentieth from their ends."""
    model, lowest = nnpkit.load(run), {}
    ranges = model.metadata["feature_ranges"]
    for structure in nnpkit.read(run.parent / "train.extxyz"):
        values = model.features(structure)
        np.testing.assert_array_equal(model.features(structure.to_atoms()), values)
        for element in ("Cu", "Au"):
            mine = values[[symbol == element for symbol in structure.symbols]]
            if len(mine):
                lowest[element] = np.minimum(lowest.get(element, np.inf), mine.min(axis=0))
    for element, found in lowest.items():
        low, high = (np.array(ranges[element][end]) for end in ("min", "max"))
        low = low + 0.05 / 1.1 * (high - low)
        assert (np.abs(found - low) < 1e-9).mean() > 0.3  # the others belong to frames of the validation set
        assert (found <= low + 1e-9).all()


def test_checkpoints_of_a_run_and_its_model_agree(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    final = nnpkit.load(tmp_path / "run")
    (tmp_path / "run/model.pt").unlink()
    best = nnpkit.load(tmp_path / "run")
    structure = nnpkit.read(run.parent / "train.extxyz")[3]
    np.testing.assert_allclose(best.predict(structure).forces, final.predict(structure).forces, atol=1e-12)
    for key in (
        "data_sha256",
        "min_distance",
        "elements",
        "cutoff",
        "spec",
        "feature_ranges",
        "n_parameters",
    ):
        assert best.metadata[key] == final.metadata[key]


def test_overrides_are_for_files(run: Path) -> None:
    with pytest.raises(InputError, match="overrides are for a YAML file"):
        nnpkit.train({"data": {"train": "a.xyz"}}, ["seed=3"])


def test_inferred_units_warn(tmp_path: Path) -> None:
    folder = HandPotential(extra=("# Length unit : Bohr, Energy unit : Ha",)).write(tmp_path)
    with pytest.warns(UserWarning, match="units bohr-hartree, since its comments say"):
        nnpkit.load(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nnpkit.load(folder, units="bohr-hartree")
