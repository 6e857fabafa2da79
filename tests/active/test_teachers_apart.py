"""`reference.python`: a calculator whose packages live in an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from active_tools import shaken_copper

from nnpkit.active.label_files import LabelFiles, settings_id
from nnpkit.active.label_worker import label_all
from nnpkit.active.labellers.ase_calculator import AseReference
from nnpkit.active.labellers.reference_calculation import Limits
from nnpkit.data.dataset import structure_sha256
from nnpkit.errors import InputError

TEACHER = """
import os
from ase.calculators.calculator import Calculator, all_changes
print("a teacher that talks")
class Teacher(Calculator):
    implemented_properties = ["energy", "forces"]
    default_parameters = {"depth": 1.0, "charge": None}
    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        print("so much said", atoms)
        if self.parameters.depth == 9.0:
            os._exit(3)
        if self.parameters.depth == 8.0:
            raise RuntimeError("no such\\ndepth")
        x = atoms.positions - atoms.positions.mean(axis=0)
        k = self.parameters.depth
        self.results = {"energy": 0.5 * k * (x**2).sum() + (self.parameters.charge or 0.0), "forces": -k * x}
"""


@pytest.fixture(scope="module")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Python of an environment with ASE and a package that ours does not have, and without nnpkit."""
    folder = tmp_path_factory.mktemp("teacher") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "ase.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "teacher.py").write_text(TEACHER)
    # ours is an installation of the source tree, or beside ASE: it is not what the process may need
    (site / "nnpkit.py").write_text("raise ImportError('nnpkit is not here')\n")
    return str(folder / "bin" / "python")


def test_the_same_numbers_as_here(other_python: str, tmp_path: Path) -> None:
    here, there = AseReference("emt"), AseReference("emt", python=other_python)
    for structure in shaken_copper(2):
        a, b = (r.compute(structure, tmp_path, {}) for r in (here, there))
        assert a.energy == b.energy
        np.testing.assert_array_equal(a.forces, b.forces)
        np.testing.assert_array_equal(a.stress, b.stress)


def test_a_package_that_is_only_there(other_python: str, tmp_path: Path) -> None:
    """Arguments arrive, changes replace them; what the calculator prints is not taken for its answer."""
    with pytest.raises(InputError, match=r"no calculator 'teacher\.Teacher'"):
        AseReference("teacher.Teacher")
    structure = shaken_copper(1)[0].replace(total_charge=1.0)
    reference = AseReference("teacher.Teacher", {"depth": 2.0}, python=other_python)
    label = reference.compute(structure, tmp_path, {})
    x = structure.positions - structure.positions.mean(axis=0)
    np.testing.assert_allclose(label.forces, -2.0 * x, atol=1e-14)
    assert label.energy == pytest.approx(np.sum(x**2) + 1.0)
    assert label.stress is None
    softer = reference.compute(structure, tmp_path, {"depth": 0.5})
    np.testing.assert_allclose(softer.forces, -0.5 * x, atol=1e-14)


def test_a_teacher_that_fails_or_dies_costs_one_structure(other_python: str, tmp_path: Path) -> None:
    structures = shaken_copper(2)
    for depth, words in ((8.0, "no such depth"), (9.0, "its process ended with exit code 3")):
        folder = tmp_path / str(depth)
        folder.mkdir()
        reference = AseReference("teacher.Teacher", {"depth": depth}, python=other_python)
        files, settings = LabelFiles(folder), settings_id(reference.identity)
        assert label_all(reference, structures[:1], files, settings, folder, Limits(), []) == 0
        failure = files.failure(settings, structure_sha256(structures[0], labels=False))
        assert failure is not None
        assert words in failure["reason"]
        assert reference.compute(structures[1], tmp_path, {"depth": 1.0}).energy > 0.0  # a new process


def test_what_is_not_there_is_named(other_python: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reference\.python: there is no program /no/python"):
        AseReference("emt", python="/no/python")
    with pytest.raises(
        InputError, match=r"'missing\.Class' in the environment of .*No module named 'missing'"
    ):
        AseReference("missing.Class", python=other_python)
    with pytest.raises(InputError, match=r"in the environment of .*its process"):
        AseReference("emt", python="true")


def test_labels_name_the_version_of_the_teacher(other_python: str) -> None:
    import ase

    assert "version" not in AseReference("emt").identity
    assert AseReference("emt", python=other_python).identity["version"] == f"ase {ase.__version__}"


def test_the_command(other_python: str, tmp_path: Path) -> None:
    """The path in the YAML is relative to its folder; the tasks of the command use it."""
    from nnpkit.data.formats.reading import read, write

    write(tmp_path / "start.xyz", shaken_copper(2), "extxyz")
    relative = os.path.relpath(Path(other_python).parent, tmp_path) + "/python"
    text = f"reference: {{calculator: teacher.Teacher, arguments: {{depth: 3.0}}, python: {relative}}}\n"
    (tmp_path / "label.yaml").write_text(text)
    words = ["start.xyz", "--reference", "label.yaml", "-o", "out.xyz", "--cores", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "nnpkit", "label", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    labels = read(tmp_path / "out.xyz")
    for label in labels:
        x = label.positions - label.positions.mean(axis=0)
        np.testing.assert_allclose(label.forces, -3.0 * x, atol=1e-7)
    described = [json.loads(p.read_text()) for p in tmp_path.rglob("*.json") if "labels" in p.parts]
    assert not any(other_python in json.dumps(d) for d in described)  # another place of it, the same labels
