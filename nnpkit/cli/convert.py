"""`nnpkit convert`: data sets and potentials from one format to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnpkit.cli.output import parse_labels, refuse

__all__ = ["convert"]


def convert(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="SRC", show_default=False, help="Data file or folder, or a MODEL.")
    ],
    destination: Annotated[
        Path,
        typer.Argument(
            metavar="DST", show_default=False,
            help="What to write. For potentials: a file ending in .pt, a nep.txt, or a folder for RuNNer.",
        ),
    ],
    from_format: Annotated[
        str | None, typer.Option("--from", metavar="FORMAT", help="Format of SRC; otherwise recognised.")
    ] = None,
    to_format: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="FORMAT", help="Format of DST; otherwise by its name. Potentials: model, runner, nep."
        ),
    ] = None,
    units: Annotated[
        str | None,
        typer.Option(
            "--units", metavar="UNITS",
            help="angstrom-ev or bohr-hartree: units of the RuNNer side, or of other data that do not say; metal, real "
            "and so on: of a LAMMPS data file.",
        ),
    ] = None,
    species: Annotated[
        str | None,
        typer.Option("--species", metavar="'O H'", help="Elements of the atom types of a LAMMPS data file."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="energy=E,...",
            help="Names of labels in SRC, where several could be meant or none is usual.",
        ),
    ] = None,
    cflength: Annotated[
        float | None,
        typer.Option("--cflength", help="Units of a RuNNer potential as in LAMMPS' pair_style hdnnp."),
    ] = None,
    cfenergy: Annotated[float | None, typer.Option("--cfenergy", help="The energy's partner of --cflength.")] = None,
    without_wall: Annotated[
        bool,
        typer.Option("--without-wall", help="Leave out a short-range repulsion that RuNNer or GPUMD cannot express."),
    ] = False,
) -> None:  # fmt: skip
    """Convert data sets and potentials from one file format to another.

    Data sets: extended XYZ, RuNNer `input.data`, DeePMD npy folders, and everything that ASE knows.
    Potentials: `model.pt`, folders of RuNNer or n2p2 (`input.nn`, `scaling.data`, `weights.*.data`),
    `nep.txt` of GPUMD, and from serialised Deep Potentials of DeePMD-kit (`model.yaml`).
    """
    from nnpkit.errors import InputError

    if _is_potential(source, destination, to_format):
        if species:
            raise InputError("--species is for LAMMPS data files", where=str(source))
        refuse(context, "potentials have no labels", "labels")
        if (to_format or destination.suffix) in ("model", ".pt"):
            refuse(
                context,
                "a model.pt has its repulsion; RuNNer and GPUMD may not be able to express it",
                "without_wall",
            )
        refuse(context, "potentials are recognised", "from_format")
        _convert_potential(source, destination, to_format, units, (cflength, cfenergy), without_wall)
        return
    if cflength is not None or cfenergy is not None or without_wall:
        raise InputError("--cflength, --cfenergy and --without-wall are for potentials", where=str(source))
    _convert_data(source, destination, (from_format, to_format), units, species, labels)


def _convert_data(
    source: Path,
    destination: Path,
    formats: tuple[str | None, str | None],
    units: str | None,
    species: str | None,
    labels: str | None,
) -> None:
    from nnpkit.data.dataset import describe_labels
    from nnpkit.data.formats.reading import detect_format, read, write
    from nnpkit.data.notes import label_sources

    from_format, to_format = formats[0] or detect_format(source), formats[1]
    own_units = from_format in ("runner", "lammps-data")
    of_source = units if own_units or not _writes_runner(destination, to_format) else None
    elements = species.split() if species else None
    with label_sources() as sources:
        structures = read(source, from_format, units=of_source, keys=parse_labels(labels), species=elements)
    write(
        destination,
        structures,
        to_format,
        units=units if from_format != "lammps-data" and _writes_runner(destination, to_format) else None,
    )
    n, n_atoms = len(structures), sum(s.n_atoms for s in structures)
    found = describe_labels(structures, sources)
    print(f"{destination}: {n} structure{'s' * (n != 1)}, {n_atoms} atoms; {found}")


def _writes_runner(destination: Path, to_format: str | None) -> bool:
    """Whether the data set written is an ``input.data``."""
    return to_format == "runner" or (to_format is None and ".data" in destination.suffixes)


def _is_potential(source: Path, destination: Path, to_format: str | None) -> bool:
    """Whether SRC is a potential; a RuNNer folder may hold data too, and then DST decides."""
    from nnpkit.deploy.imports.nep_file import is_nep_file

    if to_format in ("model", "nep") or destination.suffix == ".pt" or source.suffix == ".pt":
        return True
    if is_nep_file(source):
        return True
    if any((source / name).exists() for name in ("model.pt", "state.json", "checkpoints")):
        return True
    return (source / "input.nn").is_file() and not any(source.glob("input.data*"))


def _convert_potential(
    source: Path,
    destination: Path,
    to_format: str | None,
    units: str | None,
    factors: tuple[float | None, float | None],
    without_wall: bool,
) -> None:
    from nnpkit.cli.model_argument import describe, load_with_notes
    from nnpkit.deploy.imports.runner_potential import is_runner_folder
    from nnpkit.deploy.imports.runner_units import UNIT_NAMES
    from nnpkit.deploy.targets.contract import TargetOptions
    from nnpkit.deploy.targets.registered import TARGETS, target_for
    from nnpkit.errors import InputError

    from_runner = is_runner_folder(source)
    to_format = target_for(to_format, destination, str(source))
    if not from_runner and to_format == "model" and units is not None:
        raise InputError("--units is for RuNNer potentials", where=str(source))
    model = load_with_notes(source, units if from_runner else None, *factors)
    same = model.metadata.get("source", {}).get("units") if from_runner else units
    if from_runner and same not in UNIT_NAMES:  # given by factors: no name that a file could be written in
        same = None
    for line in TARGETS.get(to_format).write(model, destination, TargetOptions(same, without_wall)):
        print(line)
    print(f"{destination}: {describe(model)}")
