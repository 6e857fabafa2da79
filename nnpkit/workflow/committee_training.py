"""`nnpkit train` with a committee: members that share the data and all that does not change in training."""

from __future__ import annotations

import copy
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from nnpkit.config.config_file import write_config
from nnpkit.config.schema import Config
from nnpkit.data.store.stored_frames import select_frames
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.scripting import frame_of_test
from nnpkit.errors import InputError
from nnpkit.families.registered import family_of
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.sum_model import has_charges
from nnpkit.parallel import ALONE, Ranks
from nnpkit.training.checkpoint import latest_checkpoint, model_from, read_checkpoint
from nnpkit.training.frozen import count_free, freeze
from nnpkit.training.model_errors import Split
from nnpkit.training.run_folder import RunFolder
from nnpkit.training.trainer import Trainer
from nnpkit.training.uncertainty import validation_report
from nnpkit.workflow import run_steps as steps
from nnpkit.workflow.advice import few_labels, few_updates, tested
from nnpkit.workflow.assemble import (
    LoadedData,
    connect,
    frozen_of,
    load_data,
    make_schedule,
    make_splits,
    make_update,
)
from nnpkit.workflow.continuation import Beginning, begin, earlier_checkpoint, with_model_of
from nnpkit.workflow.duration import planned
from nnpkit.workflow.errors_of_groups import print_groups, test_errors
from nnpkit.workflow.interim_model import write_interim_model
from nnpkit.workflow.member_processes import processes_at_once, train_members
from nnpkit.workflow.new_model import begin_weights, scaled_new_model
from nnpkit.workflow.own_uncertainty import calibration_structures, draw_members
from nnpkit.workflow.ranks_of_training import require_one_folder, require_same

__all__ = ["run_committee"]

_PR_SET_PDEATHSIG = 1
_NOTHING: Any = None


def run_committee(
    config: Config, resume: bool, overwrite: bool, console: Console, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Train the members, each in a process of its own, and write ``committee.pt`` and what it knows of itself.

    Parameters and errors are those of `nnpkit.workflow.training_run.run_training`. Members that are complete are
    not trained again when `resume` is set. Of several `ranks` each trains its part of the members, on its own node.
    """
    settings = config.committee
    assert settings is not None
    root = RunFolder(config.output, writes=ranks.leads)
    names = [f"member-{m:02d}" for m in range(settings.trainings)]
    folders = [RunFolder(root.path / name) for name in names]
    last = [path for folder in folders if (path := folder.require_free(resume, overwrite)) is not None]
    if config.start is not None:
        config = with_model_of(
            config, read_checkpoint(last[0]) if last else earlier_checkpoint(config.start, 0)
        )
    data = load_data(config)
    steps.require_judge(config, data)
    if settings.resample == "posterior":
        calibration_structures(
            config.output, data.watched.get("validation", [])
        )  # refused before anything is trained
    parts = [_resampled(data, config, m) for m in range(len(names))]
    members = [_member_config(config, name, m) for m, name in enumerate(names)]
    identities = [
        {"config": c.model_dump(mode="json"), "data": steps.ordered_sha256(part), "seed": c.seed}
        for c, (part, _) in zip(members, parts, strict=True)
    ]
    require_same(
        {"config": config.model_dump(mode="json"), "data": [own["data"] for own in identities]},
        last[0] if last else None,
        ranks,
    )
    began = time.monotonic()
    model, report, warm = _base_model(config, data)
    memory = steps.memory_of(members[0], model, data)
    memory["budget"] //= ranks.size
    schedule = make_schedule(members[0], parts[0][0].learnt, parts[0][0].groups)
    advice = [
        *data.notes, *few_updates(members[0], planned(members[0], schedule, warm)[1]),
        *few_labels(config, parts[0][0].learnt, count_free(model, frozen_of(config))),
    ]  # fmt: skip
    steps.announce_memory(
        console, model, [f"{settings.members} members ({settings.resample})", *report, *advice], memory
    )
    if not _shares(model):
        shared = {name: Split(part, _NOTHING, data.names(part)) for name, part in data.watched.items()}
    else:
        shared = steps.prepare(model, data, memory["budget"], console)
    if not resume or overwrite:
        for folder in folders[ranks.rank :: ranks.size]:
            folder.clear()
    if ranks.leads:
        root.path.mkdir(parents=True, exist_ok=True)
        write_config(config, root.path / "config.yaml")
    require_one_folder(root, ranks)
    root.write_json("data.json", steps.data_report(config, data, model, report, memory))
    jobs = [
        _Member(m, c, folder, part, indices, identity, warm)
        for m, (c, folder, (part, indices), identity) in enumerate(
            zip(members, folders, parts, identities, strict=True)
        )
    ]
    mine = [job for job in jobs[ranks.rank :: ranks.size] if not job.complete()]
    room = processes_at_once(settings.processes, memory, ranks)
    name = train_members(mine, model, shared, memory["budget"], room, console, ranks)
    if name or not ranks.leads:
        return {"ended": name or "with the first process"}
    summaries = [json.loads((folder.path / "summary.json").read_text(encoding="utf-8")) for folder in folders]
    ended = ", ".join(dict.fromkeys(summary["ended"] for summary in summaries))
    return _finish(
        config, root, [load(folder.path) for folder in folders], shared, data, ended, began, console
    )


def _member_config(config: Config, name: str, member: int) -> Config:
    """Configuration of one member: a run by itself."""
    seed = int(np.random.SeedSequence([config.seed, 2, member]).generate_state(1)[0])
    output = str(Path(config.output) / name)
    data = config.data
    if data.validation is not None:  # the fraction was of the resampling
        data = data.model_copy(update={"validation_fraction": 0.0})
    return config.model_copy(
        update={"committee": None, "seed": seed, "output": output, "data": data}, deep=True
    )


def _shares(model: AtomicModel) -> bool:
    """Whether members share prepared structures: features that are not trained, and no charges of their own."""
    return not family_of(model.spec).trained_descriptor and not has_charges(model.spec)


def _resampled(data: LoadedData, config: Config, member: int) -> tuple[LoadedData, list[int]]:
    """Data of a member, and which of the training structures, and the additional ones behind them, these are."""
    assert config.committee is not None
    n, kind = len(data.train), config.committee.resample
    random = np.random.default_rng([config.seed, 3, member])
    indices = np.arange(n)
    if kind == "bootstrap":
        indices = np.sort(random.integers(0, n, n))
    elif kind == "splits":
        left_out = max(1, round((config.data.validation_fraction or 0.1) * n))
        indices = np.sort(random.permutation(n)[: max(1, n - left_out)])
    train = select_frames(data.train, indices)
    used = [k for k, parent in enumerate(data.parents) if parent in set(indices.tolist())]
    own = replace(  # the test structures are for the committee, not for its members
        data, splits={**data.watched, "train": train}, additional=[data.additional[k] for k in used],
        parents=[data.parents[k] for k in used],
    )  # fmt: skip
    return own, [*(int(i) for i in indices), *(n + k for k in used)]


def _base_model(config: Config, data: LoadedData) -> tuple[AtomicModel, list[str], bool]:
    """Descriptor and scaling of all members, a report, and whether weights of an earlier run suit them."""
    if config.start is not None:
        beginning = begin(config, data, earlier_checkpoint(config.start, 0))
        return beginning.model, beginning.report, beginning.warm
    return *scaled_new_model(config, data), False


class _Member:
    """What one process trains."""

    def __init__(
        self,
        number: int,
        config: Config,
        folder: RunFolder,
        data: LoadedData,
        indices: list[int],
        identity: Mapping[str, Any],
        warm: bool,
    ) -> None:
        self.number, self.config, self.folder = number, config, folder
        self.data, self.indices, self.identity, self.warm = data, indices, identity, warm

    def complete(self) -> bool:
        """Whether an earlier call trained it to the end, with the same settings."""
        last = latest_checkpoint(self.folder.path)
        if last is not None:
            steps.matching_checkpoint(last, self.identity)
        summary = self.folder.path / "summary.json"
        return last is not None and summary.exists() and (self.folder.path / "model.pt").exists()

    def begin(self, base: AtomicModel) -> Beginning:
        """The member before its training."""
        start = self.config.start
        if start is not None and self.warm:
            return begin(self.config, self.data, earlier_checkpoint(start, self.number), base)
        model = copy.deepcopy(base)
        return Beginning(model, begin_weights(self.config, model, self.data))

    def splits(self, model: AtomicModel, shared: Mapping[str, Split], budget: int) -> dict[str, Split]:
        """Prepared structures with the weights of this member: views of the shared ones where that is possible."""
        if not _shares(model):
            return make_splits(
                model, self.data.watched, budget, None, self.data.additional, self.data.grouping
            )
        views = {}
        for name, split in shared.items():
            if name == "train":
                store = family_of(model.spec).view(split.store, model, self.indices)
                views[name] = Split(self.data.train, store, self.data.names(self.data.train))
            else:
                views[name] = split._replace(store=family_of(model.spec).view(split.store, model))
        return views

    def train(self, base: AtomicModel, shared: Mapping[str, Split], budget: int) -> None:
        """Train in this process and leave the process with an exit code."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        torch.set_num_threads(1)  # the pools of the parent's threads did not survive the fork
        self.folder.path.mkdir(parents=True, exist_ok=True)
        failure = self.folder.path / "error.txt"
        failure.unlink(missing_ok=True)
        try:
            with open(self.folder.path / "train.log", "a", encoding="utf-8") as log:
                ended = self._train(base, shared, budget, Console(file=log, width=160))
        except (InputError, OSError) as error:
            failure.write_text(str(error), encoding="utf-8")
            os._exit(1)
        os._exit(128 + signal.Signals[ended].value if ended in signal.Signals.__members__ else 0)

    def _train(self, base: AtomicModel, shared: Mapping[str, Split], budget: int, console: Console) -> str:
        config, last = self.config, latest_checkpoint(self.folder.path)
        checkpoint = None if last is None else steps.matching_checkpoint(last, self.identity)
        beginning = (
            self.begin(base) if checkpoint is None else Beginning(model_from(checkpoint, str(last)), [])
        )
        model = beginning.model
        for line in beginning.report:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
        schedule = make_schedule(config, self.data.learnt, self.data.groups)
        splits = self.splits(model, shared, budget)
        connect(schedule, splits["train"].store)
        epochs, n_updates = planned(config, schedule, self.warm)
        settings = steps.trainer_settings(config, epochs, self.warm, config.training.prefetch is True)
        update = make_update(config, splits["train"].store, n_updates, self.data.groups)
        freeze(update, model, frozen_of(config))
        if note := beginning.continue_update(update, config.start):
            console.print(f"  {note}", highlight=False, soft_wrap=True)
        write_config(config, self.folder.path / "config.yaml")
        trainer = Trainer(model, update, schedule, splits, settings, self.folder, self.identity, console)
        trainer.publish = partial(write_interim_model, trainer, self.data)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        ended = trainer.fit()
        steps.finish_run(config, trainer, self.data, ended)
        return ended


def _finish(
    config: Config,
    root: RunFolder,
    loaded: list[LoadedModel],
    shared: Mapping[str, Split],
    data: LoadedData,
    ended: str,
    began: float,
    console: Console,
) -> dict[str, Any]:
    """Write ``committee.pt``, ``validation.npz`` and ``summary.json``; the summary."""
    models, metadata, extra = [m.atomic_model() for m in loaded], [m.metadata for m in loaded], None
    if len(loaded) == 1:
        assert config.committee is not None
        judges = shared["validation"].structures if "validation" in shared else []
        drawn = draw_members(root.path / "member-00", config.committee.members, config.seed, judges)
        models, metadata, extra = drawn.members, drawn.metadata, drawn.calibration
    frame = frame_of_test(data.train, models[0].elements)
    export_committee(models, metadata, root.path / "committee.pt", frame, extra)
    judge = "validation" if "validation" in shared else "train"
    split = shared[judge]
    factor = 1.0 if extra is None else extra["spread_factor"]
    report, arrays = validation_report(models, split.structures, split.store, split.groups, factor)
    partial = root.path / ".validation.npz.part"
    with open(partial, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    partial.replace(root.path / "validation.npz")
    summary = {
        judge: report.pop("errors"), "test": test_errors(models, data),
        "disagreement": report, "members": len(models), "ended": ended, "seconds": round(time.monotonic() - began, 3),
        "seed": config.seed, "versions": steps.versions(), "n_train": len(data.train),
    }  # fmt: skip
    root.write_json("summary.json", summary)
    print_groups(summary, data, console)
    errors = summary[judge]
    console.print(
        f"committee of {len(models)} on {len(split.structures)} {judge} structures: energy RMSE "
        f"{_shown(errors['energy_rmse'])} eV/atom, force RMSE {_shown(errors['force_rmse'])} eV/Å; rank correlation of "
        f"force disagreement and error {_shown(report['spearman_atoms'])}: {root.path / 'committee.pt'}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    line = tested(summary["test"], data.rule.get("tested_elsewhere", 0))
    console.print(line, highlight=False, soft_wrap=True)
    return summary


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
