"""Labels: checks, retries with changed settings, quarantine, walltime, killed workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from active_tools import program, shaken_copper
from ase.calculators.emt import EMT

from nnpkit.active.label_files import LabelFiles, settings_id
from nnpkit.active.label_worker import label_all
from nnpkit.active.labellers.ase_calculator import AseReference
from nnpkit.active.labellers.reference_calculation import CalculationError, Limits, check_label, compute_label
from nnpkit.active.labellers.registered import make_reference
from nnpkit.active.programs import python
from nnpkit.active.task import outcome, prepare_task, run_task
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.testing.labeller_suite import LabellerSuite

EMT_REFERENCE = {"kind": "ase", "calculator": "emt"}


class TestCalculatorsOfAse(LabellerSuite):
    """As the suite that other packages inherit has it."""

    @pytest.fixture
    def labeller(self) -> AseReference:
        return AseReference("emt")

    @pytest.fixture
    def structure(self) -> Structure:
        (structure,) = shaken_copper(1)
        return structure.replace(energy=None, forces=None, stress=None)


def prepare(
    folder: Path, structures, reference, retries=(), limits=None, **task
) -> tuple[LabelFiles, str, list[str]]:
    """A labelling task in `folder`/task."""
    files, settings = LabelFiles(folder), settings_id(make_reference(reference).identity)
    content = {
        "reference": reference, "limits": asdict(limits or Limits()), "retries": list(retries),
        "root": str(folder), "settings": settings,
    }  # fmt: skip
    (folder / "task").mkdir()
    (folder / "task" / "job.json").write_text(json.dumps(content))
    write(folder / "task" / "structures.xyz", structures, "extxyz")
    prepare_task(folder / "task", python("nnpkit.active.label_worker", folder / "task"), **task)
    return files, settings, [structure_sha256(s, labels=False) for s in structures]


def computed(folder: Path) -> list[str]:
    path = folder / "computed.log"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def test_labels_are_those_of_the_calculator(tmp_path) -> None:
    structures = shaken_copper(3)
    files, settings, keys = prepare(tmp_path, structures, EMT_REFERENCE)
    assert run_task(tmp_path / "task") == 0
    for structure, key in zip(structures, keys, strict=True):
        label, atoms = files.read(settings, key), structure.to_atoms()
        atoms.calc = EMT()
        assert label is not None
        assert label.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        np.testing.assert_allclose(label.forces, atoms.get_forces(), atol=1e-12)
        np.testing.assert_allclose(label.stress, atoms.get_stress(voigt=False), atol=1e-14)
        assert label.info["label_attempts"] == 1
    done = outcome(tmp_path / "task")
    assert done is not None
    assert done["code"] == 0
    assert done["cpu_seconds"] > 0
    (tmp_path / "task" / "done.json").unlink()
    run_task(tmp_path / "task")
    assert sorted(computed(tmp_path)) == sorted(keys)  # nothing was computed again


def good():
    structure = shaken_copper(1)[0]
    return AseReference("emt").compute(structure, Path(), {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.replace(energy=None), "no energy"),
        (lambda s: s.replace(forces=None), "no forces"),
        (lambda s: s.replace(energy=float("nan")), "energy holds values that are not finite"),
        (lambda s: s.replace(forces=s.forces * np.nan), "forces holds values that are not finite"),
        (lambda s: s.replace(forces=s.forces + 0.1), "do not add up to zero"),
        (lambda s: s.replace(forces=s.forces * 1e3), "a force of"),
        (
            lambda s: s.replace(info={"expected_energy": s.energy + 40.0}),
            "10 eV/atom from what the potential",
        ),
    ],
)
def test_what_is_refused(change, words) -> None:
    check_label(good(), Limits())
    with pytest.raises(CalculationError, match=words):
        check_label(change(good()), Limits())


def test_a_result_of_another_structure_is_refused(tmp_path) -> None:
    reference = make_reference({"kind": "command", "command": program(tmp_path, middle="x[0][0] += 0.01")})
    with pytest.raises(CalculationError, match="another structure"):
        compute_label(reference, shaken_copper(1)[0], tmp_path, Limits(), {})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"middle": "energy = float('nan')"}, "energy is nan"),
        ({"after": "open(sys.argv[2], 'w').write('garbage\\nand more')"}, "labels.xyz"),
        ({"before": "sys.exit('no licence left')"}, "exit code 1 after printing: no licence left"),
        ({"after": "import os; os.remove(sys.argv[2])"}, "left no labels.xyz"),
        (
            {"after": "t = open(sys.argv[2]).read(); open(sys.argv[2], 'w').write(t + t)"},
            "2 structures instead of one",
        ),
    ],
)
def test_failures_go_to_quarantine_and_stop_nothing(tmp_path, lines, words) -> None:
    """One structure fails for the reason given, the other is labelled."""
    structures = shaken_copper(2)
    (where, line), first = next(iter(lines.items())), float(structures[0].positions[0, 0])
    reference = make_reference(
        {"kind": "command", "command": program(tmp_path, **{where: f"if x[0][0] == {first!r}:\n    {line}"})}
    )
    files, settings = LabelFiles(tmp_path), settings_id(reference.identity)
    assert label_all(reference, structures, files, settings, tmp_path, Limits(), [{"try": 2}]) == 0
    keys = [structure_sha256(s, labels=False) for s in structures]
    assert [files.has(settings, key) for key in keys] == [False, True]
    failure = files.failure(settings, keys[0])
    assert failure is not None
    assert failure["attempts"] == 2
    assert words in failure["reason"]
    kept = files.quarantine(settings, keys[0]) / "attempt"
    assert (kept / "structure.xyz").exists()
    assert (kept / "command.log").exists()


def test_a_retry_with_changed_settings_is_noted(tmp_path) -> None:
    command = [*program(tmp_path, before="if sys.argv[3] == 'fast': sys.exit('not converged')"), "{mode}"]
    reference = {"kind": "command", "command": command, "settings": {"mode": "fast"}}
    files, settings, (key,) = prepare(tmp_path, shaken_copper(1), reference, retries=[{"mode": "careful"}])
    run_task(tmp_path / "task")
    label = files.read(settings, key)
    assert label is not None
    assert label.info["label_attempts"] == 2
    assert label.info["label_changes"] == {"mode": "careful"}


def test_a_hanging_calculation_is_ended(tmp_path) -> None:
    structures = shaken_copper(2)
    first = float(structures[0].positions[0, 0])
    hang = f"if x[0][0] == {first!r}: time.sleep(600)"
    reference = {"kind": "command", "command": program(tmp_path, before=hang)}
    files, settings, keys = prepare(tmp_path, structures, reference, beat=5.0)
    run_task(tmp_path / "task")
    failure = files.failure(settings, keys[0])
    assert failure is not None
    assert failure["reason"] == "not finished after 5 s"
    assert files.has(settings, keys[1])


def test_a_killed_worker_costs_its_structure_once(tmp_path) -> None:
    """The worker is killed twice; every label comes, none is computed twice."""
    reference = {"kind": "command", "command": program(tmp_path, before="time.sleep(0.3)")}
    files, settings, keys = prepare(tmp_path, shaken_copper(3), reference, beat=60.0)
    watcher = subprocess.Popen(python("nnpkit.active.task", tmp_path / "task"))
    beat, killed = tmp_path / "task" / "beat", 0
    while watcher.poll() is None and killed < 2:
        time.sleep(0.02)
        if beat.exists() and beat.read_text():
            children = Path(f"/proc/{watcher.pid}/task/{watcher.pid}/children").read_text().split()
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            killed += 1
            time.sleep(0.5)
    assert watcher.wait(60) == 0
    assert killed == 2
    assert all(files.has(settings, key) for key in keys)
    assert sorted(computed(tmp_path)) == sorted(keys)


def test_a_stopped_task_goes_on_later(tmp_path) -> None:
    reference = {"kind": "command", "command": program(tmp_path, before="time.sleep(0.5)")}
    files, settings, keys = prepare(tmp_path, shaken_copper(2), reference, beat=60.0)
    watcher = subprocess.Popen(python("nnpkit.active.task", tmp_path / "task"))
    while not (tmp_path / "task" / "beat").exists():
        time.sleep(0.02)
    watcher.terminate()
    assert watcher.wait(60) == 75
    assert outcome(tmp_path / "task") is None  # unknown, not failed
    assert run_task(tmp_path / "task") == 0
    assert all(files.has(settings, key) for key in keys)
    assert not (tmp_path / "task" / "attempts.json").exists()


def test_a_command_that_fails_says_why(tmp_path) -> None:
    prepare_task(tmp_path, ["sh", "-c", "echo out of paper; exit 3"])
    assert run_task(tmp_path) == 0
    done = outcome(tmp_path)
    assert done is not None
    assert (done["code"], done["reason"]) == (3, "exit code 3: out of paper")


def test_walltime(tmp_path) -> None:
    prepare_task(tmp_path, ["sleep", "60"], walltime=0.3)
    run_task(tmp_path)
    done = outcome(tmp_path)
    assert done is not None
    assert done["reason"] == "not finished after its walltime of 0.3 s"


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ({"kind": "ase", "calculator": "nonsense"}, "there is no calculator 'nonsense'"),
        ({"kind": "ase", "calculator": "os.nothing"}, "there is no calculator"),
        ({"kind": "oracle"}, "no labeller is called 'oracle'"),
        ({"kind": "cp2k", "template": "none.inp"}, "cannot read the CP2K template"),
    ],
)
def test_descriptions_that_make_no_sense(description, words) -> None:
    with pytest.raises(InputError, match=words):
        make_reference(description)


def test_a_placeholder_without_value(tmp_path) -> None:
    reference = make_reference({"kind": "command", "command": ["echo", "{basis}"]})
    with pytest.raises((InputError, CalculationError), match="placeholder without a value"):
        compute_label(reference, shaken_copper(1)[0], tmp_path, Limits(), {})
