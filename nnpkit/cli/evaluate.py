"""`nnpkit evaluate`: a potential against reference data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnpkit.cli.output import parse_labels

if TYPE_CHECKING:
    from nnpkit.data.groups import Grouping
    from nnpkit.data.structure import Structure
    from nnpkit.deploy.load import LoadedModel
    from nnpkit.measure.metrics import ErrorSums
    from nnpkit.progress import Progress

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="model.pt, run folder, checkpoint or RuNNer potential folder."),
    ],
    data: Annotated[list[str], typer.Argument(metavar="DATA", help="Files or folders with structures.")],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the errors to this JSON file.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FILE",
            help="Write the structures with predicted labels to this extxyz file.",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Format of the data; recognised by default.")
    ] = None,
    units: Annotated[
        str | None, typer.Option("--units", help="Units of the data: angstrom-ev or bohr-hartree.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="energy=E,...", help="Names of labels in the data, as in convert."),
    ] = None,
    groups: Annotated[
        str,
        typer.Option(
            "--groups",
            metavar="KEY",
            help="Key of the frames that names groups with errors of their own; auto, file or none.",
        ),
    ] = "auto",
) -> None:
    """Compare a potential with reference data: errors per file, predictions on request.

    Groups of frames have their own errors; a key of the frames names them, by default config_type or group.

    Structures without labels are predicted too; errors are over the labels that there are. The predictions
    are the structures in their order with `energy`, `forces`, `stress` (if periodic in three directions) and
    the `energies` of the atoms; reference labels are kept under `ref_energy`, `ref_forces`, `ref_stress`,
    `ref_charges`, `ref_dipole`. Labels that look as if they had other units or signs are named.
    """
    from rich.console import Console

    from nnpkit.cli.model_argument import load_with_notes
    from nnpkit.data.checks.suspicious import find_wrong_units
    from nnpkit.data.dataset import load_dataset
    from nnpkit.data.formats.extxyz import write_extxyz
    from nnpkit.data.groups import find_grouping
    from nnpkit.measure.metrics import ErrorSums
    from nnpkit.progress import Progress
    from nnpkit.training.group_errors import table_of_groups

    potential = load_with_notes(model)
    files = {name: load_dataset(name, format, units, keys=parse_labels(labels)) for name in data}
    grouping = find_grouping(files, groups, "--groups")
    sums = {name: ErrorSums() for name in files}
    console = Console()
    with Progress("structures", sum(map(len, files.values())), console) as bar:
        predicted = _predict(potential, files, sums, bar, grouping)
        if predictions is None:
            for _ in predicted:
                pass
        else:
            write_extxyz(predictions, predicted)
    total = ErrorSums()
    for part in sums.values():
        total.merge(part)
    splits = {name: part.summary() for name, part in sums.items()}
    shown = {**splits, "all": total.summary()} if len(splits) > 1 else splits
    console.print(_table(shown))
    if (table := table_of_groups(total.summary(), "all files" if len(splits) > 1 else data[0])) is not None:
        console.print(table)
    for name, structures in files.items():
        if not any(s.labels for s in structures):
            hint = "" if predictions else "; --predictions FILE writes what the potential says of them"
            typer.echo(
                f"nnpkit: note: {name}: no structure has labels, so there are no errors{hint}", err=True
            )
    for name, part in sums.items():
        wrong = [f"{finding.structure}: {finding.message}" for finding in find_wrong_units(files[name])]
        for suspicion in [*part.suspicions(), *wrong]:
            typer.echo(f"nnpkit: warning: {name}: {suspicion}", err=True)
    if json is not None:
        _write_json(json, {"model": str(model), **total.summary(), "splits": splits})


def _predict(
    potential: LoadedModel,
    files: Mapping[str, Sequence[Structure]],
    sums: dict[str, ErrorSums],
    bar: Progress,
    grouping: Grouping | None,
) -> Iterator[Structure]:
    """Every structure with predicted labels; the errors go to `sums`."""
    for name, structures in files.items():
        for structure in structures:
            result = potential.predict(structure)
            group = None if grouping is None else grouping.of(structure)
            sums[name].add(
                structure, result.energy, result.forces, result.stress, group, result.charges, result.dipole
            )
            info: dict[str, Any] = {} if structure.energy is None else {"ref_energy": structure.energy}
            info |= {} if structure.stress is None else {"ref_stress": structure.stress.ravel()}
            info |= {} if structure.dipole is None else {"ref_dipole": structure.dipole}
            columns = {"ref_forces": structure.forces, "ref_charges": structure.charges}
            labels = {key: column for key, column in columns.items() if column is not None}
            bar.advance()
            yield structure.replace(
                energy=result.energy, forces=result.forces, stress=result.stress, charges=result.charges,
                dipole=result.dipole,
                info={**structure.info, **info},
                arrays={**structure.arrays, **labels, "energies": result.energies},
            )  # fmt: skip


def _table(splits: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table

    from nnpkit.measure.metrics import CHARGE_METRICS, METRICS

    table = Table("", title="Errors", title_justify="left")
    for name in splits:
        table.add_column(name, justify="right")
    for key, title in {**METRICS, **CHARGE_METRICS}.items():
        values = [part.get(key) for part in splits.values()]
        if key in CHARGE_METRICS and all(value is None for value in values):
            continue
        table.add_row(
            title, *("-" if v is None else f"{v:d}" if isinstance(v, int) else f"{v:.6g}" for v in values)
        )
    return table


def _write_json(path: Path, content: dict[str, Any]) -> None:
    import json

    from nnpkit.files import atomic_write

    with atomic_write(path) as stream:
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")
