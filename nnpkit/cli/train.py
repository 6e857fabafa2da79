"""`nnpkit train`: from a YAML file to a run folder."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnpkit.cli.output import refuse
from nnpkit.errors import InputError, NnpkitError

if TYPE_CHECKING:
    from nnpkit.parallel import Ranks

__all__ = ["train"]


def train(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="YAML file that describes data, model and training.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", show_default=False, help="Settings to change, e.g. `training.epochs=50`."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue from the last checkpoint of the run folder, if it has one."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the run folder.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Say how large the model is, how fast it trains, and what its time or epochs buy; write nothing.",
        ),
    ] = False,
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            min=2,
            metavar="K",
            show_default=False,
            help="Cross-validation: train K times, each time testing on another K-th of the data.",
        ),
    ] = None,
) -> None:
    """Train a potential on reference data as a YAML file describes.

    The run folder (`output` in the YAML) gets the complete configuration, a report of the data, checkpoints,
    the learning curve, TensorBoard logs, the potential of the best epoch (`model.pt`) and a summary.

    With `--folds` it gets the folders `fold-0`, `fold-1` ... instead, and `folds.json` with the errors of all.

    With `--plan` nothing is trained or written: a few trial updates say what the time or the epochs buy.

    Started by `torchrun`, `srun` or `mpirun` with several processes, these train one potential together.

    Ctrl-C, SIGTERM and SIGUSR1 end the training after a checkpoint, with exit code 130, 143 or 138; `--resume`
    continues it as if it had not been interrupted. SIGUSR1 during preparations ends it after the first update.
    """
    from nnpkit.progress import remember_warning

    context.with_resource(remember_warning())
    from nnpkit.config.config_file import load_config
    from nnpkit.parallel import start_ranks
    from nnpkit.workflow.cross_validation import run_folds
    from nnpkit.workflow.training_run import run_training

    ranks = start_ranks()
    with _one_voice(ranks):
        if ranks.size > 1:
            refuse(context, "one process; torchrun, srun or mpirun started several", "plan", "folds")
        if resume and overwrite:
            raise InputError("--resume continues the run that --overwrite removes", expected="one of them")
        settings = load_config(config, overrides or [])
        if plan:
            from nnpkit.workflow.plan import plan_training

            refuse(context, "--plan writes nothing", "resume", "overwrite", "folds")
            plan_training(settings)
            return
        if folds is None:
            summary = run_training(settings, resume=resume, overwrite=overwrite, ranks=ranks)
        else:
            summary = run_folds(settings, folds, resume=resume, overwrite=overwrite)
    if summary["ended"] in signal.Signals.__members__:
        if ranks.leads:
            words = [str(config), *(overrides or []), *([] if folds is None else ["--folds", str(folds)])]
            print(f"interrupted; continue with: nnpkit train {shlex.join(words)} --resume")
        raise typer.Exit(128 + signal.Signals[summary["ended"]].value)
    if ranks.leads and folds is None and settings.committee is None:
        run = shlex.quote(settings.output)
        print(f"next: nnpkit report {run}, nnpkit evaluate {run} DATA, nnpkit md {run} STRUCTURE -o npt")


@contextmanager
def _one_voice(ranks: Ranks) -> Iterator[None]:
    """Let the first of several processes say what is wrong with any of them, and end all at once."""
    try:
        yield
    except NnpkitError as error:
        if ranks.size == 1:
            raise
        if ranks.leads:
            print("nnpkit: error: " + " ".join(str(error).split()), file=sys.stderr)
        ranks.leave(str(error), 1)
