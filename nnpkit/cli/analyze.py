"""`nnpkit analyze`: what potentials and data are like, one question a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nnpkit.cli.output import print_table, print_values, refuse, write_figure, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nnpkit.data.structure import Structure

__all__ = ["analyze"]

analyze = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Answer one question about potentials or data, in numbers and a figure.\n\nEach command prints a table; "
    "`--json` writes the numbers, `--figure` draws them.",
)

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="model.pt, run folder, checkpoint or committee.")
]
Data = Annotated[list[str], typer.Argument(metavar="DATA", help="Files or folders with structures.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers to this file.")]
Figure = Annotated[Path | None, typer.Option("--figure", metavar="FILE", help="Draw them into this PNG.")]
Override = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Setting to change; repeatable.")
]


@analyze.command()
def errors(model: Model, data: Data, json: Json = None, figure: Figure = None) -> None:
    """Errors of energies, forces and stress: both definitions of the force RMSE, mean absolute deviations, directions.

    The figure shows how often the direction of a force is off, by its size (Cooper et al. 2020, Figs. 3 and 5).
    """
    from nnpkit.analysis.figures import error_map_figure
    from nnpkit.analysis.force_errors import error_map
    from nnpkit.analysis.predictions import errors_summary, outliers
    from nnpkit.measure.metrics import METRICS

    found = _predicted(model, data)
    summary, (errors_by_force, forces) = (
        errors_summary(found),
        error_map(found.forces, found.force_label),
    )
    titles = {
        **METRICS,
        "energy_max": "largest energy error, eV/atom",
        "force_max": "largest force error, eV/Å",
    }
    print_values([(titles[k], v) for k, v in summary.items()])
    if forces["n_atoms"]:
        names = {
            "magnitude_mae": "force magnitude MAE, eV/Å", "magnitude_rmse": "force magnitude RMSE, eV/Å",
            "direction_mean": "force direction, mean error, degrees", "direction_median": "median, degrees",
            "direction_median_large": "median of the larger half, degrees",
        }  # fmt: skip
        print_values([(title, forces[key]) for key, title in names.items()])
    for kind in ("energy", "force"):
        worst = outliers(found, kind, 3)
        print_values([(f"worst {kind}: {o.name}", o.error) for o in worst])
    write_json(json, {"errors": summary, "forces": forces})
    write_figure(figure, error_map_figure({"data": (errors_by_force, forces)}) if forces["n_atoms"] else None)


@analyze.command()
def contradictions(
    model: Model,
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="A potential trained independently.")],
    data: Data,
    factor: Annotated[float, typer.Option(help="Errors are large beyond this multiple of the RMSE.")] = 3.0,
    json: Json = None,
    figure: Figure = None,
) -> None:
    """Data that two potentials fail to learn alike (Tokita and Behler 2023, Fig. 20)."""
    from nnpkit.analysis.figures import correlation_figure
    from nnpkit.analysis.predictions import contradictions as find

    first, second = _predicted(model, data), _predicted(other, data)
    panels, content = [], {}
    for kind, unit, a, b in (
        ("energy", "Energy error (eV/atom)", first.energy_error, second.energy_error),
        ("force", "Largest force error (eV/Å)", first.largest_force_error, second.largest_force_error),
    ):
        indices, correlation = find(a, b, factor)
        names = [first.structures[i].name for i in indices]
        content[kind] = {"correlation": correlation, "structures": names}
        panels.append((unit, a, b, factor))
        print_values(
            [(f"{kind}: correlation of the errors", correlation), ("large errors of both", len(names))]
        )
        for name in names[:20]:
            print(f"  {name}")
    write_json(json, content)
    write_figure(figure, correlation_figure(panels))


@analyze.command()
def extrapolation(model: Model, data: Data, json: Json = None) -> None:
    """Features of structures outside the range of the training data."""
    from dataclasses import asdict

    from nnpkit.analysis.extrapolation import extrapolation_table
    from nnpkit.cli.model_argument import load_with_notes
    from nnpkit.errors import InputError

    potential, structures = load_with_notes(model), _structures(data)
    if not potential.metadata.get("feature_ranges"):
        raise InputError("the potential knows no ranges of its features", where=str(model))
    rows, atoms = extrapolation_table(potential, structures)
    print(
        f"{(atoms > 0).sum()} of {len(structures)} structures have features outside, on {atoms.sum()} atoms"
    )
    print_table(
        ["element", "feature", "atoms", "structures", "farthest, of the range", "in"],
        [(r.element, r.feature, r.atoms, r.structures, r.largest, r.structure) for r in rows[:30]],
    )
    write_json(json, {"structures": {s.name: int(n) for s, n in zip(structures, atoms, strict=True) if n},
                  "features": [asdict(r) for r in rows]})  # fmt: skip


@analyze.command()
def histograms(
    data: Data,
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Potential whose features are counted too.")
    ] = None,
    json: Json = None,
    figure: Figure = None,
) -> None:
    """Distributions of the energies of each file, and of the features of a potential on them.

    Features are counted in the range of the training data, from 0 to 1: what is beyond is extrapolation, what is empty
    is a hole. The figure shows the energies, or with a potential its features.
    """
    import numpy as np

    from nnpkit.analysis.figures import histogram_figure
    from nnpkit.analysis.histograms import energy_series, feature_series
    from nnpkit.cli.model_argument import load_with_notes

    files = {name: _structures([name]) for name in data}
    series = energy_series(files)
    label = "Energy (eV/atom)"
    if model is not None:
        potential = load_with_notes(model)
        series = {
            f"{Path(name).name} {element}": values
            for name, structures in files.items()
            for element, values in feature_series(potential, structures).items()
        }
        label = "Feature in the range of the training data"
    content = {}
    for name, values in series.items():
        counts, edges = np.histogram(values, bins=60)
        content[name] = {"edges": edges.tolist(), "counts": counts.tolist()}
    print_table(
        [label, "number", "mean", "standard deviation", "smallest", "largest"],
        [
            (n, len(v), float(v.mean()), float(v.std()), float(v.min()), float(v.max()))
            for n, v in series.items()
        ],
    )
    write_json(json, content)
    write_figure(figure, histogram_figure(series, label))


@analyze.command()
def fisher(
    model: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Potentials to compare.")],
    data: Annotated[
        list[str], typer.Option("--data", metavar="DATA", help="Labelled structures; repeatable.")
    ],
    batches: Annotated[int, typer.Option(help="Batches of labels averaged over.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Of the batches.")] = 1,
    force_labels: Annotated[int, typer.Option(help="Force components of a batch.", min=1)] = 10,
    json: Json = None,
    figure: Figure = None,
) -> None:
    """Eigenvalues of the Fisher information matrix of the L1 loss (Shao et al. 2021, eq. 1 and Fig. 9).

    Compare potentials on the same data and with the same number of batches.
    """
    from nnpkit.analysis.figures import spectrum_figure
    from nnpkit.analysis.fisher import model_spectrum
    from nnpkit.cli.model_argument import load_with_notes

    structures = _structures(data)
    spectra = {
        str(path): model_spectrum(
            load_with_notes(path).atomic_model(), structures, batches, seed=seed, force_labels=force_labels
        )
        for path in model
    }
    keys = ("n_weights", "n_resolved", "trace", "largest", "log10_median", "log10_peak", "effective_rank")
    summaries = [s.summary() for s in spectra.values()]
    print_table(["", *spectra], [(key, *(s[key] for s in summaries)) for key in keys])
    write_json(json, {n: {**s.summary(), "eigenvalues": s.eigenvalues.tolist()} for n, s in spectra.items()})
    write_figure(figure, spectrum_figure(spectra))


@analyze.command()
def weights(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs to compare.")],
    json: Json = None,
    figure: Figure = None,
) -> None:
    """Distance of the weights from their beginning, and their distribution (Shao et al. 2021, Fig. 8)."""
    from nnpkit.analysis.figures import weights_figure
    from nnpkit.analysis.weights import distance_curve, layer_table, weight_change

    changes = {str(path): weight_change(path) for path in run}
    curves = {str(path): distance_curve(path) for path in run}
    for name, change in changes.items():
        print(f"{name}: {change.distance:.4g} from the beginning")
        rows = layer_table(change)
        print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    write_json(json, {
        name: {"distance": change.distance, "epochs": curves[name][0].tolist(), "curve": curves[name][1].tolist(),
               "layers": layer_table(change)}
        for name, change in changes.items()
    })  # fmt: skip
    write_figure(figure, weights_figure(changes, curves))


@analyze.command()
def cutoff(
    context: typer.Context,
    structure: Annotated[
        str, typer.Argument(metavar="STRUCTURE", help="As for `nnpkit md`: FILE or FILE@5.")
    ],
    calculator: Annotated[
        str,
        typer.Option(
            help="ASE calculator (tblite, emt, package.module.Class), or a potential's file or folder."
        ),
    ] = "tblite",
    method: Annotated[
        Literal["freeze", "hessian"],
        typer.Option(help="Move all atoms beyond a radius at random, or take the decay of the Hessian."),
    ] = "freeze",
    radii: Annotated[str, typer.Option(help="Å, for freeze; separated by commas.")] = "3,4,5,6,7,8",
    center: Annotated[
        list[int] | None,
        typer.Option(help="Atom to look at; repeatable.", show_default="the first of each element"),
    ] = None,
    displacement: Annotated[float, typer.Option(help="Å, standard deviation of the moves of freeze.")] = 0.1,
    samples: Annotated[int, typer.Option(help="Random moves for each radius and atom.", min=2)] = 8,
    json: Json = None,
    figure: Figure = None,
) -> None:
    """How far atoms feel each other, with the reference method: is a cutoff large enough?

    `freeze`: spread of the force on an atom when only what is beyond the radius moves, which no potential with that
    cutoff can describe. `hessian`: decay of d F_i / d x_j with the distance, which symmetry does not hide (Tokita and
    Behler 2023, section IV B).
    """
    from nnpkit.analysis.cutoffs import freezing, hessian_decay
    from nnpkit.analysis.figures import decay_figure
    from nnpkit.cli.model_argument import any_calculator, read_start

    if method == "hessian":
        refuse(context, "it is of --method freeze", "radii", "displacement", "samples")
    start, calculate = read_start(structure), any_calculator(calculator)
    if method == "freeze":
        found = freezing(
            start, calculate, _numbers(radii), center, displacement=displacement, samples=samples
        )
        head, rows = ["radius, Å", "force noise, eV/Å", "atoms beyond"], zip(*found[:3], strict=True)
    else:
        decay = hessian_decay(start, calculate, center)
        head, rows = ["distance, Å", "|d F_i / d x_j|, eV/Å²", "share beyond"], zip(*decay[:3], strict=True)
    listed = [tuple(float(x) for x in row) for row in rows]
    print_table(head, listed)
    write_json(json, {"method": method, "columns": head, "rows": listed})
    write_figure(figure, decay_figure([r[0] for r in listed], [r[1] for r in listed], head[0], head[1]))


@analyze.command(name="learning-curve")
def learning_curve(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML of the training.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the trainings.")],
    fractions: Annotated[
        str, typer.Option(help="Parts of the training data, separated by commas.")
    ] = "0.1,0.2,0.4,0.7,1",
    seeds: Annotated[int, typer.Option(help="Trainings of each size.", min=1)] = 1,
    override: Override = None,
    json: Json = None,
    figure: Figure = None,
) -> None:
    """Errors by the amount of training data (Tokita and Behler 2023, Fig. 13). Complete trainings are not repeated."""
    from nnpkit.workflow.studies import learning_curve as study

    rows = study(config, _numbers(fractions), output, seeds=seeds, overrides=override or [], console=_quiet())
    _study(rows, "n_train", "Training structures", json, figure)


@analyze.command()
def sensitivity(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML of the training.")],
    values: Annotated[list[str], typer.Argument(metavar="VALUE...", help="Values to try.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the trainings.")],
    key: Annotated[
        str, typer.Option(help="Setting that gets the values.")
    ] = "training.optimizer.learning_rate",
    seeds: Annotated[int, typer.Option(help="Trainings of each value.", min=1)] = 1,
    override: Override = None,
    json: Json = None,
    figure: Figure = None,
) -> None:
    """Errors by the learning rate, or any other setting, and the seed. Complete trainings are not repeated."""
    from nnpkit.workflow.studies import sensitivity as study

    rows = study(config, key, values, output, seeds=seeds, overrides=override or [], console=_quiet())
    _study(rows, "value", key, json, figure)


def _study(
    rows: Sequence[Mapping[str, Any]], by: str, label: str, json: Path | None, figure: Path | None
) -> None:
    from nnpkit.analysis.figures import study_figure

    def error(row: Mapping[str, Any], part: str, key: str) -> float | None:
        return (row.get(part) or {}).get(key)

    columns = [(part, key) for key in ("energy_rmse", "force_rmse") for part in ("train", "test")]
    print_table(
        [by, "seed", *(f"{key.split('_')[0]} {part}" for part, key in columns), "failure"],
        [(r[by], r["seed"], *(error(r, *c) for c in columns), r["failure"] or "") for r in rows],
    )
    write_json(json, {"by": by, "rows": list(rows)})
    write_figure(figure, study_figure(rows, by, label))


def _structures(data: Sequence[str]) -> Sequence[Structure]:
    from nnpkit.data.dataset import load_dataset

    return load_dataset(list(data), labels_matter=False)


def _predicted(model: Path, data: Sequence[str]) -> Any:
    from nnpkit.analysis.predictions import predict_all
    from nnpkit.cli.model_argument import load_with_notes

    return predict_all(load_with_notes(model), _structures(data))


def _numbers(text: str) -> list[float]:
    from nnpkit.errors import InputError

    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"cannot read the numbers {text!r}", expected="such as 3,4,5.5") from None


def _quiet() -> Any:
    """Where trainings of a series report: standard error."""
    from rich.console import Console

    return Console(stderr=True)
