"""`nnpkit tune`: from data and a budget to a potential."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["tune"]


def tune(
    data: Annotated[
        list[str], typer.Argument(metavar="DATA...", show_default=False, help="Reference data, any format.")
    ],
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="US", show_default=False,
                     help="Microseconds per atom and time step in LAMMPS on one core of this machine."),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option("--target", metavar="ERROR", show_default=False,
                     help="Instead: RMSE of validation forces, eV/Å, that the cheapest potential shall reach."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where everything is written.")
    ] = Path("tuned"),
    time: Annotated[
        str, typer.Option("--time", help="Of all trainings together, e.g. `90s`, `10min`, `2h`.")
    ] = "10min",
    families: Annotated[
        str, typer.Option("--families", metavar="'A B'", help="Which are tried: acsf, cluster_expansion, nep.")
    ] = "acsf cluster_expansion",
    precision: Annotated[
        str, typer.Option("--precision", help="Of the kernels in LAMMPS, float64 or mixed.")
    ] = "float64",
    seed: Annotated[int, typer.Option("--seed", help="Of all trainings.", min=0)] = 0,
) -> None:  # fmt: skip
    """Find the best potential within a budget of time per step, or the cheapest within an error.

    Each family is tried in a few sizes, with the default cutoffs and with shorter ones. All train for a short time;
    their costs are measured in LAMMPS; those above the budget leave, then the worse half, and the others train anew for
    twice the time, until no more than three are left.

    The folder gets `tune.html` with the front of accuracy and cost, `tune.json` with every number, the potential
    `model.pt`, and `chosen.yaml`, which trains it again. Trainings that are complete are not repeated, so the same
    command continues an interrupted one.
    """
    from nnpkit.section import given_seconds
    from nnpkit.workflow.tuning import Goal, tune

    goal = Goal(budget, target, given_seconds(time, "--time"), precision)
    found = tune({"train": data}, goal, output, families.replace(",", " ").split(), seed)
    row = next(row for row in found["rows"] if row["name"] == found["chosen"])
    print(
        f"chosen: {row['name']}, {row['us_per_atom_step']:.2f} us/atom/step, validation error "
        f"{row['rounds'][-1]['error']:.4f}; see {output / 'tune.html'}"
    )
