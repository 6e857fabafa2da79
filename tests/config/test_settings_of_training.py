"""Every key of the training YAML does something that shows, or is refused where it would not."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from alloy import write_alloy
from observing import observe_committee, observe_training, quick
from settings_of_training import BASES, EXCUSED, PROBES, REFUSED, YAML
from walk import keys_of, plain_key, without_sections

import nnpkit
from nnpkit.config.config_file import load_config
from nnpkit.config.schema import Config
from nnpkit.data.formats.reading import read, write
from nnpkit.errors import InputError
from nnpkit.families.charge_settings import Charges
from nnpkit.families.registered import model_settings
from nnpkit.training import trainer
from nnpkit.workflow.training_run import run_training

INPUT = """\
number_of_elements 2
elements Cu Au
symfunction_short Cu 2 Cu {} 0.0 4.0
symfunction_short Au 2 Cu 0.1 0.0 4.0
"""


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """The current folder, with data, functions, two earlier runs and the YAML."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("walk")
    os.chdir(folder)
    write_alloy(folder / "train.extxyz", 6, gold=(1, 2, 3))
    write(
        "train.extxyz",
        [
            s.replace(
                charges=np.linspace(-0.3, 0.3, s.n_atoms),
                info={"kind": "abc"[k % 3], "other": "aabbcc"[k], "worth": 1.0 + k},
            )
            for k, s in enumerate(read("train.extxyz"))
        ],
    )
    frames = [s.replace(energy=s.energy + 0.5) for s in read("train.extxyz")[:3]]
    write("test.extxyz", frames)
    (folder / "input.nn").write_text(INPUT.format(0.1))
    (folder / "other.nn").write_text(INPUT.format(0.2))
    (folder / "walk.yaml").write_text(YAML)
    with pytest.MonkeyPatch.context() as patch:  # the last epoch is the best one, so that it has a covariance
        worths = count(10, -1)
        patch.setattr(trainer, "monitored", lambda *_: next(worths))
        nnpkit.train("walk.yaml", ["output=earlier", "training.epochs=2"])
        nnpkit.train("walk.yaml", ["output=other", "training.epochs=2", "seed=1"])
    with quick():
        yield folder
    os.chdir(before)


def observe(base: str, *changes: str, like: list[str] | None = None) -> list[str]:
    function = observe_committee if base == "committee" else observe_training
    shutil.rmtree("run", ignore_errors=True)
    return function(Path("walk.yaml"), [*BASES[base], *changes], Path("run").absolute(), like)


@cache
def unchanged(base: str) -> list[str]:
    return observe(base)


ALL_PROBES = [
    pytest.param(base, key, value, id=f"{key} ({base})")
    for base, own in PROBES.items()
    for key, value in own.items()
]


@pytest.mark.parametrize(("base", "key", "value"), ALL_PROBES)
def test_a_change_shows(base: str, key: str, value: str | tuple[str, str]) -> None:
    section = plain_key(key.rpartition(".")[0])
    if isinstance(value, str):
        changes = [f"{plain_key(key)}={value}"]
    elif "=" in value[0]:
        changes = [f"{section}.{part}" for part in value]
    else:
        top = value[0] if value[0].startswith("model.") else f"model.{value[0]}"
        changes = [f"{top}={value[1]}"]
    try:
        changed = observe(base, *changes, like=unchanged(base))
    except InputError:
        assert key in MAY_BE_REFUSED
        return
    assert changed != unchanged(base)


MAY_BE_REFUSED = {
    "data.format", "data.labels", "training.device", "training.force_training[taylor].min_force",
}  # fmt: skip
"""Of which the change of the probe is an error of the data, or of the machine: an effect, too."""


@pytest.mark.parametrize("base", BASES)
def test_the_same_settings_show_nothing(base: str) -> None:
    """Else a difference would mean nothing."""
    assert observe(base) == unchanged(base)


@pytest.mark.parametrize(("base", "change", "words"), REFUSED)
def test_a_setting_without_effect_is_refused(base: str, change: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace(".", r"\.")):
        run_training(load_config("walk.yaml", [*BASES[base], change, "output=refused"]))
    assert not Path("refused").exists()


def test_kinds_are_told_apart() -> None:
    """A key ``kind`` chooses among sections: each is the training of a base that differs from all others."""
    told = [unchanged(base) for base in BASES]
    assert [base for base, n in zip(BASES, told, strict=True) if told.count(n) > 1] == []


def test_every_key_has_a_probe_or_an_excuse() -> None:
    keys = set(keys_of(Config))
    known = {key for own in PROBES.values() for key in own}
    wanted = {key for key in without_sections(Config) if not key.endswith("kind") or key in known}
    assert {kind.model_fields["charges"].annotation for kind in model_settings()} == {Charges | None}
    assert len({kind.model_fields["terms"].annotation for kind in model_settings()}) == 1
    wanted -= {key for key in wanted if ".charges." in key and "[chebyshev]" not in key}  # shown once for all
    wanted -= {key for key in wanted if ".terms." in key and "[acsf]" not in key}
    assert sorted(wanted - known - set(EXCUSED)) == []
    assert sorted((known | set(EXCUSED)) - keys) == []
    assert len(EXCUSED) < 10
    print(Counter({"keys": len(keys), "shown": len(known), "refused": len(REFUSED), "excused": len(EXCUSED)}))
