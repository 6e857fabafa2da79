"""`nnpkit properties`: what people publish of a material, from a potential and from its reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnpkit.cli.output import print_table, refuse, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnpkit.analysis.properties.results import Result
    from nnpkit.data.structure import Structure

__all__ = ["properties"]

What = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        show_default="eos, elastic, surfaces, and vacancy of an element",
        help="Of eos, compression, elastic, vacancy, interstitial, surfaces, stacking, phonons; from simulations "
        "expansion, hot-elastic, melting, diffusion, viscosity, vibrations, conductivity.",
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        metavar="CALCULATOR",
        help="Compute the properties of the crystal at rest with this ASE calculator (emt, tblite, chgnet, "
        "package.module.Class) or potential as well.",
    ),
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="Folder for properties.html, JSON, figures, simulations.")
]
Temperatures = Annotated[
    str, typer.Option(help="K, of thermal expansion, and between which melting is sought.")
]
Temperature = Annotated[
    float, typer.Option(help="K, of elastic constants, diffusion, viscosity, vibrations, conductivity.")
]
Extent = Annotated[
    float, typer.Option(help="Å; least width of the supercells of point defects and phonons.", min=1.0)
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results there.")]
Timestep = Annotated[float | None, typer.Option(help="fs.", show_default="0.5 with hydrogen, else 1")]


def properties(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="model.pt, run folder, checkpoint or committee.")
    ],
    structure: Annotated[
        str, typer.Argument(metavar="STRUCTURE", help="As for `nnpkit md`: FILE or FILE@5.")
    ],
    *,
    output: Output,
    what: What = None,
    reference: Reference = None,
    pressure_max: Annotated[float, typer.Option(help="GPa, of the compression.", min=0.1)] = 50.0,
    surfaces: Annotated[str, typer.Option(help="Indices of surfaces, separated by commas.")] = "111,100,110",
    extent: Extent = 10.0,
    temperature: Temperature = 300.0,
    temperatures: Temperatures = "200,400,600",
    pressure: Annotated[
        float, typer.Option(help="bar, of thermal expansion, elastic constants, melting.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(help="Time steps of each simulation.", min=100)] = 20000,
    timestep: Timestep = None,
    atoms: Annotated[
        int, typer.Option(help="Least number of atoms in simulations; the cell is repeated.", min=1)
    ] = 200,
    seed: Annotated[int, typer.Option(help="Of the velocities in simulations.")] = 1,
    ranks: Annotated[int, typer.Option(help="MPI processes of simulations.")] = 1,
    overwrite: Overwrite = False,
) -> None:
    """Compute properties of a material: one table, one HTML page, and all numbers as JSON.

    The crystal is relaxed first. Elastic constants are those of relaxed ions, surfaces and vacancies are relaxed;
    diffusion and viscosity have error bars from independent parts of the run. `--reference` computes the same with
    another method on the same structure.
    """
    from rich.console import Console

    from nnpkit.analysis.properties.moving_study import MOVING, expected_seconds, moving_properties
    from nnpkit.analysis.properties.properties_page import write_page
    from nnpkit.analysis.properties.static_study import STATIC, static_properties
    from nnpkit.analysis.properties.study import require_possible, wanted_properties
    from nnpkit.analysis.properties.study_options import Options
    from nnpkit.cli.model_argument import any_calculator, load_with_notes, read_start
    from nnpkit.md.calculator import NnpkitCalculator
    from nnpkit.md.simulation_settings import Simulation
    from nnpkit.md.step_cost import system_of_size
    from nnpkit.progress import clock_time

    start = _start(read_start(structure))
    usual = "eos,elastic,surfaces" + (",vacancy" if len(set(start.symbols)) == 1 else "")
    names = wanted_properties(usual if what is None else what)
    _refuse_without_effect(context, names)
    still, moving = [n for n in names if n in STATIC], [n for n in names if n in MOVING]
    options = Options(pressure_max, _words(surfaces), extent, _numbers(temperatures))
    settings = Simulation(
        temperature=temperature, pressure=pressure, steps=steps, seed=seed, dump_every=max(1, steps // 200),
        timestep=timestep or (0.5 if "H" in start.symbols else 1.0), every=max(1, min(100, steps // 1000)),
    )  # fmt: skip
    require_possible(start, names, options, settings)
    potential = load_with_notes(model)
    other = None if reference is None else any_calculator(reference)
    _refuse_earlier(output, overwrite)
    system = system_of_size(start, atoms)
    if moving:
        seconds = expected_seconds(potential, system, moving, options, settings, ranks)
        print(f"simulations of {system.n_atoms} atoms: about {clock_time(seconds)} where nothing else runs")
    found: dict[str, Result] = {}
    compared: dict[str, Result] = {}
    with Console(stderr=True).status("") as status:
        if still:
            found |= static_properties(start, NnpkitCalculator(potential), still, options, status.update)
            if other is not None:
                compared = static_properties(
                    start, other, still, options, lambda text: status.update(f"reference: {text}")
                )
        if moving:
            found |= moving_properties(
                potential, system, moving, options, output, settings, ranks, overwrite, status.update
            )
    output.mkdir(parents=True, exist_ok=True)
    write_page(output / "properties.html", start.name, found, compared, reference)
    write_json(output / "properties.json", _content(start.name, found, compared))
    _print(found, compared, reference)
    print(f"{output}/properties.html and .json")
    if _say_failed("", found) + _say_failed(f"{reference}: ", compared):
        raise typer.Exit(1)


def _say_failed(whose: str, results: Mapping[str, Result]) -> int:
    """Say which properties could not be computed, and why; how many those are."""
    failed = {name: result.failed for name, result in results.items() if result.failed}
    for name, why in failed.items():
        typer.echo(f"nnpkit: error: {whose}{name}: {why}", err=True)
    return len(failed)


def _start(structure: Structure) -> Structure:
    """The conventional cell where spglib finds one; it must be periodic."""
    from nnpkit.analysis.solids import conventional
    from nnpkit.errors import InputError

    if not structure.pbc.all():
        raise InputError(
            "properties of a material need one", where=structure.name, expected="3 periodic directions"
        )
    return conventional(structure)


def _refuse_without_effect(context: typer.Context, names: list[str]) -> None:
    """Refuse options of properties that were not asked for."""
    from nnpkit.analysis.properties.moving_study import MOVING
    from nnpkit.analysis.properties.static_study import STATIC

    for option, needed in (
        ("pressure_max", ("compression",)), ("surfaces", ("surfaces",)),
        ("extent", ("vacancy", "interstitial", "phonons")),
        ("temperatures", ("expansion", "melting")), ("pressure", ("expansion", "hot-elastic", "melting")),
        ("temperature", ("hot-elastic", "diffusion", "viscosity", "vibrations", "conductivity")), ("reference", STATIC),
        *((name, MOVING) for name in ("steps", "timestep", "atoms", "seed", "ranks")),
    ):  # fmt: skip
        if not set(needed) & set(names):
            refuse(context, f"it is of --what {' or '.join(needed)}", option)


def _words(text: str) -> list[str]:
    from nnpkit.analysis.properties.defects import miller

    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        miller(word)
    return words


def _numbers(text: str) -> list[float]:
    from nnpkit.errors import InputError

    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(
            f"{text!r} is no list of numbers", where="--temperatures", expected="200,400,600"
        ) from None
    return sorted(set(found))


def _refuse_earlier(output: Path, overwrite: bool) -> None:
    from nnpkit.errors import InputError

    if (output / "properties.json").exists() and not overwrite:
        raise InputError(
            "there are properties already", where=str(output), hint="give --overwrite, or another folder"
        )


def _content(name: str, found: Mapping[str, Result], compared: Mapping[str, Result]) -> dict[str, Any]:
    content: dict[str, Any] = {"structure": name, "potential": {k: r.plain() for k, r in found.items()}}
    if compared:
        content["reference"] = {k: r.plain() for k, r in compared.items()}
    return content


def _print(found: Mapping[str, Result], compared: Mapping[str, Result], reference: str | None) -> None:
    from nnpkit.analysis.properties.properties_page import rows

    print_table(
        ["", "", "potential", *([reference] if reference else []), "unit"],
        rows(found, compared, bool(reference)),
    )
    for name, result in found.items():
        for words in result.notes:
            typer.echo(f"nnpkit: note: {name}: {words}", err=True)
