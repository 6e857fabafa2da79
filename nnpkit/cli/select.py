"""`nnpkit select`: which frames of a trajectory are worth a reference calculation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnpkit.cli.output import refuse

if TYPE_CHECKING:
    from nnpkit.active.assess import Assessment
    from nnpkit.active.selection import Bounds, Decision
    from nnpkit.data.structure import Structure
    from nnpkit.deploy.load import LoadedModel

__all__ = ["select"]


def select(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(help="Committee (committee.pt), or one potential: then only extrapolation counts."),
    ],
    trajectory: Annotated[list[str], typer.Argument(metavar="TRAJECTORY", help="Files with candidates.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Extended XYZ of the frames taken.")
    ] = Path("selected.xyz"),
    known: Annotated[
        list[str] | None,
        typer.Option(
            "--known", metavar="FILE", help="Structures that have labels; frames like them are not taken."
        ),
    ] = None,
    validation: Annotated[
        list[str] | None,
        typer.Option(
            "--validation", metavar="FILE",
            help="Labelled structures outside the training, to learn the bounds from.",
        ),
    ] = None,
    lower: Annotated[
        float | None,
        typer.Option("--lower", help="Force disagreement, eV/Å, below which the committee is certain."),
    ] = None,
    upper: Annotated[
        float | None,
        typer.Option("--upper", help="Force disagreement, eV/Å, above which a frame is too wild."),
    ] = None,
    budget: Annotated[int, typer.Option("--budget", help="Most frames to take.")] = 50,
    method: Annotated[
        str,
        typer.Option("--method", help="fps, cur, disagreement or random: in which order frames are taken."),
    ] = "fps",
    duplicate: Annotated[
        float, typer.Option("--duplicate", help="Closer than this, in typical distances, is a duplicate.")
    ] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="Of the random method.")] = 1,
    reasons: Annotated[
        Path | None,
        typer.Option("--reasons", metavar="FILE", help="CSV with the verdict and reason of every frame."),
    ] = None,
    without: Annotated[
        str | None,
        typer.Option(
            "--without", metavar="E1,E2",
            help="Elements that the potential does not see: `NULL` in LAMMPS. Their atoms stay in the frames.",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Format of the trajectory; recognised by default.")
    ] = None,
) -> None:  # fmt: skip
    """Choose the frames of a trajectory that are worth a reference calculation.

    A frame is worth it where the committee disagrees by more than the lower bound, or a feature lies outside the
    range of the training data; above the upper bound, or with atoms too close, it is too wild. The bounds are
    given or learnt from the errors of validation structures. Of those worth it, the most different ones are taken
    until the budget is used up. Label them with `nnpkit label`.
    """
    from nnpkit.active.assess import describe, without_elements
    from nnpkit.active.selection import Selection
    from nnpkit.active.selection import select as decide
    from nnpkit.cli.model_argument import load_with_notes
    from nnpkit.data.dataset import load_dataset, structure_sha256

    rules = Selection(budget=budget, method=method, duplicate=duplicate, seed=seed)
    potential = load_with_notes(model)
    _refuse_without_effect(context, potential.n_members)
    bounds = _bounds(potential, validation, lower, upper)
    candidates = load_dataset(trajectory, format, labels_matter=False)
    labelled = load_dataset(known, labels_matter=False) if known else []
    unseen = _unseen(without, potential, candidates)
    assessed = _assessed(potential, candidates, unseen)
    decisions = decide(
        assessed, bounds, rules, describe(potential, [without_elements(s, unseen) for s in labelled]),
        {structure_sha256(s, labels=False): f"the same as {s.name}" for s in labelled},
        potential.metadata.get("min_distance"),
    )  # fmt: skip
    print(f"bounds {bounds.lower:.3g} to {bounds.upper:.3g} eV/Å: {bounds.reason}")
    _write(output, reasons, assessed, decisions)


def _refuse_without_effect(context: typer.Context, n_members: int) -> None:
    """Refuse a seed without draws, and bounds or their data where they decide nothing."""
    if context.params["method"] != "random":
        refuse(context, "only --method random draws", "seed")
    if n_members < 2:
        refuse(context, "one potential does not disagree with itself", "lower", "upper", "validation")
    if context.params["lower"] is not None and context.params["upper"] is not None:
        refuse(context, "both bounds are given: there is nothing to learn", "validation")


def _assessed(model: LoadedModel, candidates: Sequence[Structure], unseen: list[str]) -> list[Assessment]:
    """What the potential says of every candidate, with a bar."""
    from rich.console import Console

    from nnpkit.active.assess import assess
    from nnpkit.progress import Progress

    with Progress("frames", len(candidates), Console()) as bar:
        found = []
        for assessment in assess(model, candidates, unseen):
            found.append(assessment)
            bar.advance()
    return found


def _unseen(without: str | None, model: LoadedModel, candidates: Sequence[Structure]) -> list[str]:
    """The elements of --without."""
    from nnpkit.errors import InputError

    elements = without.split(",") if without else []
    if seen := sorted(set(elements) & set(model.elements)):
        raise InputError(f"the potential sees {', '.join(seen)}", where="--without")
    found = {symbol for structure in candidates for symbol in structure.symbols}
    if missing := [element for element in elements if element not in found]:
        raise InputError(f"no frame has {', '.join(missing)}", where="--without")
    return elements


def _write(output: Path, reasons: Path | None, assessed: list[Assessment], decisions: list[Decision]) -> None:
    """Write the frames taken and the reasons, and say how many there are."""
    from nnpkit.active.selection import count_verdicts
    from nnpkit.data.formats.reading import write

    for verdict, number in count_verdicts(decisions).items():
        print(f"{number:6d} {verdict}")
    if reasons is not None:
        _write_reasons(reasons, decisions)
    pairs = zip(assessed, decisions, strict=True)
    taken = [_annotated(a, d) for a, d in pairs if d.verdict == "taken"]
    if not taken:
        print("nothing to label")
        return
    write(output, taken, "extxyz")
    print(f"{len(taken)} frames in {output}; label them: nnpkit label {output}")


def _bounds(
    model: LoadedModel, validation: list[str] | None, lower: float | None, upper: float | None
) -> Bounds:
    """Bounds as given, or learnt."""
    import numpy as np

    from nnpkit.active.selection import Bounds, learn_bounds
    from nnpkit.data.dataset import load_dataset
    from nnpkit.errors import InputError

    if model.n_members < 2:
        return Bounds(float("inf"), float("inf"), "one potential: only extrapolation counts")
    if lower is not None and upper is not None:
        if not lower < upper:
            raise InputError(f"--lower {lower:g} is not below --upper {upper:g}")
        return Bounds(lower, upper, "as given")
    if not validation:
        raise InputError(
            "no bounds", where="--lower, --upper", hint="give both, or --validation with labelled structures"
        )
    frames = [s for s in load_dataset(validation) if s.forces is not None]
    results = [model.predict(s) for s in frames]
    spread = [float(r.disagreement.forces_std.max()) for r in results if r.disagreement is not None]
    error = [
        float(np.linalg.norm(r.forces - s.forces, axis=1).max()) for r, s in zip(results, frames, strict=True)
    ]
    learnt = learn_bounds(np.array(spread), np.array(error))
    return Bounds(lower or learnt.lower, upper or learnt.upper, learnt.reason)


def _annotated(assessment: Assessment, decision: Decision) -> Any:
    """The structure without old labels, with what was found out about it."""
    info = {"expected_energy": assessment.energy, "reason": decision.reason}
    if decision.disagreement is not None:
        info["disagreement"] = decision.disagreement
    return assessment.structure.replace(
        energy=None, forces=None, stress=None, charges=None, dipole=None, info=info, arrays={}
    )


def _write_reasons(path: Path, decisions: list[Decision]) -> None:
    import csv

    from nnpkit.files import atomic_write

    with atomic_write(path) as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["frame", "verdict", "disagreement_eV_A", "reason"])
        for d in decisions:
            rows.writerow(
                [d.name, d.verdict, "" if d.disagreement is None else f"{d.disagreement:.6g}", d.reason]
            )
