"""`nnpkit train` from beginning to end: configuration in, run folder out."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from rich.console import Console

from nnpkit.config.config_file import write_config
from nnpkit.config.schema import Config
from nnpkit.config.schema_training import Ekf
from nnpkit.data.checks.suspicious import findings_table
from nnpkit.data.statistics import statistics_table
from nnpkit.deploy.baseline import ModelBaseline
from nnpkit.families.factory import count_parameters
from nnpkit.measure.structure_memory import keep_freed_memory
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.parallel import ALONE, Ranks
from nnpkit.training.checkpoint import model_from, read_checkpoint
from nnpkit.training.frozen import count_free, freeze
from nnpkit.training.run_folder import RunFolder
from nnpkit.training.trainer import Trainer
from nnpkit.workflow.advice import few_labels, few_updates
from nnpkit.workflow.assemble import connect, frozen_of, load_data, make_schedule, make_update  # fmt: skip
from nnpkit.workflow.balance import balance
from nnpkit.workflow.continuation import Beginning, begin, earlier_checkpoint, with_model_of
from nnpkit.workflow.duration import planned
from nnpkit.workflow.interim_model import write_interim_model
from nnpkit.workflow.new_model import make_model
from nnpkit.workflow.ranks_of_training import require_one_folder, require_parallel, require_same
from nnpkit.workflow.run_report import report_at_end
from nnpkit.workflow.run_steps import (
    announce_memory,
    data_report,
    finish_run,
    matching_checkpoint,
    memory_of,
    ordered_sha256,
    prepare,
    prepares_ahead,
    require_judge,
    trainer_settings,
)
from nnpkit.workflow.update_makers import covariance_partition

__all__ = ["run_training"]


def run_training(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Train as `config` says and write the folder ``config.output``.

    Parameters
    ----------
    config : Config
        What to do.
    resume : bool
        Go on from the last checkpoint in the folder, if there is one.
    overwrite : bool
        Replace an earlier run in the folder.
    console : Console, optional
        Where to report; standard output by default.
    ranks : Ranks
        The processes that train together, each of which calls this; the first one writes and reports.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    InputError
        For data, settings or checkpoints that cannot be used; nothing has been written then.
    """
    console = (console or Console()) if ranks.leads else Console(quiet=True)
    keep_freed_memory()
    require_parallel(config, ranks.size)
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    if config.committee is not None:
        from nnpkit.workflow.committee_training import run_committee

        summary = run_committee(config, resume, overwrite, console, ranks)
        if ranks.leads:
            report_at_end(config, summary, console)
        return summary
    folder = RunFolder(config.output, writes=ranks.leads)
    last = folder.require_free(resume, overwrite)
    earlier = None
    if config.start is not None:
        earlier = earlier_checkpoint(config.start) if last is None else read_checkpoint(last)
        config = with_model_of(config, earlier)
    data = load_data(config)
    require_judge(config, data)
    identity = {"config": config.model_dump(mode="json"), "data": ordered_sha256(data), "seed": config.seed}
    require_same(identity, last, ranks)
    checkpoint = None if last is None else matching_checkpoint(last, identity)
    console.print(statistics_table(data.statistics))
    if data.findings:
        console.print(findings_table(data.findings))
    if checkpoint is not None:
        if config.training.threads is None:  # sums depend on it in their last digits
            torch.set_num_threads(checkpoint.state.get("threads") or torch.get_num_threads())
        beginning = Beginning(model_from(checkpoint, str(last)), [f"continued from {last}"])
    elif earlier is not None:
        beginning = begin(config, data, earlier)
    else:
        beginning = Beginning(*make_model(config, data))
    model, report = beginning.model, beginning.report
    schedule = make_schedule(config, data.learnt, data.groups)
    warm = beginning.warm if checkpoint is None else bool(checkpoint.state["progress"].get("warm"))
    epochs, n_updates = planned(config, schedule, warm)
    memory = memory_of(config, model, data, ranks)
    notes = [
        *report, *data.notes, *_blocks(config, model), *few_updates(config, n_updates),
        *few_labels(config, data.learnt, count_free(model, frozen_of(config))),
        balance(config, data.learnt, count_free(model, frozen_of(config))),
    ]  # fmt: skip
    announce_memory(console, model, notes, memory, ahead := prepares_ahead(config, ranks))
    splits = prepare(model, data, memory["budget"], console)
    connect(schedule, splits["train"].store)
    update = make_update(config, splits["train"].store, n_updates, data.groups, ranks)
    if frozen := freeze(update, model, frozen_of(config)):
        console.print(f"  {frozen} of {count_parameters(model)} weights are frozen", highlight=False)
    if (note := beginning.continue_update(update, config.start)) is not None:
        console.print(f"  {note}", highlight=False, soft_wrap=True)
    with folder.claimed():
        if checkpoint is None:
            folder.clear()
            if isinstance(data.baseline, ModelBaseline) and ranks.leads:
                data.baseline.model.save(folder.path / "baseline.pt")
            folder.write_json("data.json", data_report(config, data, model, report, memory))
        require_one_folder(folder, ranks)
        settings = trainer_settings(config, epochs, warm, ahead)
        trainer = Trainer(model, update, schedule, splits, settings, folder, identity, console, ranks=ranks)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        if ranks.leads:
            trainer.publish = partial(write_interim_model, trainer, data)
            write_config(config, folder.path / "config.yaml")
        ended = trainer.fit()
        if not ranks.leads:
            return {"ended": ended}
        summary = finish_run(config, trainer, data, ended)
    report_at_end(config, summary, console)
    return summary


def _blocks(config: Config, model: AtomicModel) -> list[str]:
    """What became of the partition of the covariance that was asked for, if there is a covariance."""
    optimizer = config.training.optimizer
    return [covariance_partition(optimizer, model).note] if isinstance(optimizer, Ekf) else []
