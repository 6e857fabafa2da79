"""Training on a data store: the numbers are those of the files, and no set of structures is held."""

from __future__ import annotations

import io
import json
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.config.schema import Config
from nnpkit.data.formats import contract, extxyz
from nnpkit.data.formats.reading import write
from nnpkit.data.store import frame_facts, frame_sample, stored_frames
from nnpkit.data.store.building import build_store
from nnpkit.data.structure import Structure
from nnpkit.measure import frames as frames_module
from nnpkit.training import trainer
from nnpkit.workflow import member_processes, run_steps
from nnpkit.workflow.run_steps import prepares_ahead
from nnpkit.workflow.training_run import run_training

CONFIG: dict[str, Any] = {
    "seed": 5,
    "data": {"train": "train.extxyz", "validation_fraction": 0.25, "test_fraction": 0.0},
    "model": {
        "descriptor": {"cutoff": 4.0, "angular_cutoff": 3.0, "zetas": [1], "radial": 2},
        "network": {"hidden": [3]},
    },
    "training": {"epochs": 2, "threads": 1},
}  # fmt: skip


def shaken(n: int = 12) -> list[Structure]:
    """Small cells of copper with energies, forces and stresses."""
    random, found = np.random.default_rng(3), []
    for k in range(n):
        atoms: Atoms = bulk("Cu", cubic=True)
        atoms.positions += random.normal(scale=0.1, size=(4, 3))
        atoms.calc = EMT()
        for quantity in ("energy", "forces", "stress"):
            atoms.calc.get_property(quantity, atoms)
        found.append(Structure.from_atoms(atoms, f"train.extxyz#{k}").replace(info={}, arrays={}))
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Files, and the store that is made of them, in the current folder."""
    for module in (contract, extxyz):
        monkeypatch.setattr(module, "PIECE_ATOMS", 16)
    before = Path.cwd()
    os.chdir(tmp_path)
    write("train.extxyz", shaken())
    build_store(["train.extxyz"], "all.store")
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(CONFIG))
    yield tmp_path
    os.chdir(before)


def train(*overrides: str) -> tuple[dict[str, Any], str]:
    """Summary and output of a training."""
    console = Console(file=io.StringIO(), width=200)
    summary = run_training(load_config("train.yaml", overrides), console=console)
    return summary, console.file.getvalue()


def weights_of(run: str) -> dict[str, bytes]:
    """Every tensor of every checkpoint."""
    return {p.parent.name: p.read_bytes() for p in Path(run, "checkpoints").glob("*/state.safetensors")}


def test_a_store_trains_like_its_file(folder: Path) -> None:
    of_file, _ = train("output=a")
    of_store, _ = train("output=b", "data.train=all.store")
    assert weights_of("a") == weights_of("b")
    for part in ("train", "validation"):
        assert of_file[part] == of_store[part]
    a, b = (json.loads(Path(run, "data.json").read_text()) for run in "ab")
    for part in ("train", "validation"):
        assert [Path(n).name for n in a["split"][part]] == b["split"][part]
    assert a["sha256"] == b["sha256"]


def test_frames_that_are_not_kept_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("output=a", "training.memory_budget_gb=1e-9")
    monkeypatch.setattr(frames_module, "EDGE_BUDGET", 3_000)
    made = []
    real = frames_module.FrameStore.__getitem__
    monkeypatch.setattr(
        frames_module.FrameStore, "__getitem__", lambda s, i: made.append(i in s.kept) or real(s, i)
    )
    train("output=b", "training.memory_budget_gb=1e-9", "data.train=all.store")
    assert weights_of("a") == weights_of("b")
    assert {True, False} <= set(made)


FAMILIES = {
    "acsf": CONFIG["model"],
    "chebyshev": {
        "kind": "chebyshev", "network": {"hidden": [3]},
        "descriptor": {"radial_order": 2, "radial_cutoff": 4.0, "angular_order": 1, "angular_cutoff": 3.0},
    },
    "cluster_expansion": {
        "kind": "cluster_expansion", "network": {"hidden": [3]}, "wall": "off",
        "descriptor": {
            "radial_cutoff": 4.0, "angular_cutoff": 3.5, "radial_channels": 2, "radial_basis": 3,
            "angular_channels": 1, "angular_basis": 3, "invariants": [[1, 1]],
        },
    },
    "deep_potential": {
        "kind": "deep_potential", "network": {"hidden": [4, 4]},
        "descriptor": {"cutoff": 4.0, "embedding": [4], "axis_neurons": 2},
    },
    "latent charges": {
        "kind": "chebyshev", "network": {"hidden": [3]}, "charges": {"generation": "latent"},
        "descriptor": {"radial_order": 2, "radial_cutoff": 4.0, "angular_order": 1, "angular_cutoff": 3.0},
    },
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["ekf", "adam"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_thread_prepares_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, family: str, optimizer: str
) -> None:
    """Weights and errors, whoever prepares structures, of every family that keeps any."""
    (folder / "train.yaml").write_text(yaml.safe_dump({**CONFIG, "model": FAMILIES[family]}))
    monkeypatch.setattr(frames_module, "EDGE_BUDGET", 0)
    threads: set[str] = set()
    real = stored_frames.DataStore.__getitem__

    def watched(store: Any, index: Any) -> Any:
        threads.add(threading.current_thread().name.split("_")[0])
        return real(store, index)

    monkeypatch.setattr(stored_frames.DataStore, "__getitem__", watched)
    settings = [
        f"training.optimizer.kind={optimizer}",
        "training.memory_budget_gb=1e-9",
        "data.train=all.store",
    ]
    summaries = {}
    for name, ahead in {"a": "false", "b": "true"}.items():
        summaries[name], output = train(f"output={name}", f"training.prefetch={ahead}", *settings)
        assert ("nnpkit-ahead" in threads) == (name == "b")
        assert ("by a thread ahead of every use" in output) == (name == "b")
    assert weights_of("a") == weights_of("b")
    for part in ("train", "validation"):
        assert summaries["a"][part] == summaries["b"][part]


def test_a_processor_for_it_decides_about_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate(CONFIG)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    for processors, free, expected in ((1, 2, False), (2, 2, True), (2, 1, False)):
        monkeypatch.setattr(member_processes, "allowed_processors", lambda n=processors: n)
        monkeypatch.setattr(run_steps, "free_processors", lambda n=free: n)
        assert prepares_ahead(config) is expected


def test_no_set_is_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time are more than a few structures of a store alive."""
    monkeypatch.setattr(frames_module, "EDGE_BUDGET", 0)
    monkeypatch.setattr(frame_sample, "FITTED", 2)
    for module in ("nnpkit.families.prepare", "nnpkit.workflow.new_model"):
        monkeypatch.setattr(f"{module}.FITTED", 2)
    monkeypatch.setattr("nnpkit.workflow.new_model._REPULSION_STRUCTURES", 2)
    monkeypatch.setattr(frame_sample, "CHECKED", 2)
    monkeypatch.setattr("nnpkit.workflow.learned_labels.CHECKED", 2)
    alive, most = set(), 0
    real = stored_frames.DataStore.__getitem__

    def watched(store: Any, index: Any) -> Any:
        nonlocal most
        found = real(store, index)
        if isinstance(found, Structure):
            alive.add(id(found))
            weakref.finalize(found, alive.discard, id(found))
            most = max(most, len(alive))
        return found

    monkeypatch.setattr(stored_frames.DataStore, "__getitem__", watched)
    train("output=b", "data.train=all.store", "training.memory_budget_gb=1e-9", "training.epochs=1")
    assert 0 < most <= 4


def test_large_sets_are_evaluated_in_part_and_at_the_end_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "EVERY_EPOCH", 12)
    summary, output = train()
    assert "3 of 9 train structures are evaluated after epochs, all at the end" in output
    assert summary["train"]["n_structures"] == 9
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["train"]["n_structures"] for line in lines] == [3, 3, 3]
    assert [line["validation"]["n_structures"] for line in lines] == [3, 3, 3]


def test_more_of_what_chooses_the_best_epoch_is_evaluated_within_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "EVALUATED_ATOMS", 8)
    train("training={time: 1s, threads: 1}")
    line = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert (line["train"]["n_structures"], line["validation"]["n_structures"]) == (2, 3)


def test_samples_are_seeded_and_stated_in_size() -> None:
    some = frame_facts.sample_of(1000, 50)
    assert len(set(some.tolist())) == 50
    assert some.tolist() == sorted(some.tolist()) == frame_facts.sample_of(1000, 50).tolist()
    assert frame_facts.sample_of(30, 50).tolist() == list(range(30))
    frames = stored_frames.FramesOf(shaken(4), range(4))
    assert [s.name for s in frame_sample.sampled(frames, 9)] == [s.name for s in frames]
    assert len(frame_sample.sampled(frames, 2)) == 2
    assert len(frame_sample.sampled(list(frames), 2)) == 4
