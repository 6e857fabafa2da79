"""`nnpkit export`: a run or a checkpoint as model.pt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]


def export(
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|CHECKPOINT...", show_default=False,
            help="Folder of a run (its best epoch) or of one checkpoint (that epoch); also a RuNNer potential. "
            "Several with --committee.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="MODEL", help="The file to write.",
                     show_default="model.pt or committee.pt"),
    ] = None,
    committee: Annotated[
        bool, typer.Option("--committee", help="Write several potentials as one committee.pt.")
    ] = False,
    uncertainty: Annotated[
        int | None,
        typer.Option(
            "--uncertainty", metavar="M", show_default=False,
            help="Of a run of the Kalman filter: write the potential, and M-1 drawn around it from its covariance, as "
            "one committee.pt, whose force_std is the expected error of the forces. 5 do, 8 are steadier.",
        ),
    ] = None,
    tabulate: Annotated[
        float | None,
        typer.Option(
            "--tabulate", metavar="TOL",
            help="Of Deep Potentials: relative deviation of the tables that stand for embedding networks in runs.",
            show_default="1e-10",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Write a run or a checkpoint as the model.pt that LAMMPS and ASE load.

    The file holds everything: elements, units, cutoff, ranges of the training data and a self-test that every
    program evaluates when it loads it. With --committee, several potentials become one file that gives the mean
    of its members and their disagreement. In runs, tables stand for the embedding networks of Deep Potentials;
    --tabulate says how exactly.
    """
    from nnpkit.cli.model_argument import describe, load_with_notes
    from nnpkit.errors import InputError

    if uncertainty is not None:
        if len(source) > 1 or committee or tabulate is not None:
            raise InputError(
                "--uncertainty beside --committee, --tabulate or a second source", expected="one run alone"
            )
        from nnpkit.workflow.own_uncertainty import write_with_uncertainty

        output = output or Path("committee.pt")
        found = write_with_uncertainty(source[0], output, uncertainty)["calibration"]
        print(
            f"{output}: force_std is the expected error, {found['force_error']:.3g} eV/Å on {found['structures']} "
            f"validation structures; rank correlation with the true one {_shown(found['spearman_atoms'])} by atom, "
            f"{_shown(found['spearman_frames'])} by structure"
        )
        return
    if len(source) > 1 and not committee:
        raise InputError(f"{len(source)} potentials", expected="one, or several with --committee")
    models = [load_with_notes(path) for path in source]
    if tabulate is not None:
        for model in models:
            model.tabulate(tabulate)
            print(f"{model.where}: tables deviate by {model.metadata['tabulation']['bound']:.1e} at most")
    if committee:
        from nnpkit.deploy.load import load
        from nnpkit.deploy.targets.committee_file import export_committee

        output = output or Path("committee.pt")
        export_committee([m.atomic_model() for m in models], [m.metadata for m in models], output)
        print(f"{output}: {describe(load(output))}")
        return
    output = output or Path("model.pt")
    models[0].save(output)
    print(f"{output}: {describe(models[0])}")


def _shown(correlation: float | None) -> str:
    return "unknown" if correlation is None else f"{correlation:.2f}"
