"""`nnpkit md`: write, run and plot a LAMMPS simulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nnpkit.cli.output import refuse

if TYPE_CHECKING:
    from nnpkit.data.structure import Structure
    from nnpkit.deploy.load import LoadedModel

__all__ = ["md"]

Ensemble = Literal["npt", "nvt", "nve", "minimize"]
Coupling = Literal["iso", "aniso", "tri"]


Species = Annotated[
    str | None,
    typer.Option(
        help="Elements of the atom types of a LAMMPS data file that does not say them.",
        metavar="'O H'",
        show_default=False,
    ),
]
Watch = Annotated[
    tuple[float, float] | None,
    typer.Option(
        help="Of a committee: largest force disagreement, eV/Å, from which frames are collected, and "
        "above which the run ends.",
        metavar="LOWER UPPER",
        show_default=False,
    ),
]
Every = Annotated[
    int | None, typer.Option(help="Steps between thermo lines.", show_default="steps/1000, at most 100")
]
DumpEvery = Annotated[int | None, typer.Option(help="Steps between frames.", show_default="steps/200")]
Temperature = Annotated[
    str, typer.Option(help="K; thermostat and initial velocities; 300..900 is a ramp.", metavar="T")
]
Replicate = Annotated[
    tuple[int, int, int], typer.Option(help="Repeat the cell along its three vectors.", metavar="A B C")
]
Timestep = Annotated[float | None, typer.Option(help="fs.", show_default="0.5 with hydrogen, else 1")]
Model = Annotated[
    Path | None,
    typer.Argument(
        help="Potential: model.pt, a run folder, or a RuNNer potential folder.", show_default=False
    ),
]
Start = Annotated[
    str | None,
    typer.Argument(
        help="Start: any file nnpkit or ASE reads; FILE@5 is frame 5, else the last is taken.",
        show_default=False,
    ),
]
Kind = Annotated[Ensemble, typer.Option(help="What is kept constant, or an energy minimisation.")]
Replicas = Annotated[
    int, typer.Option(min=1, help="Independent runs, with seeds one after the other, in folders 1, 2, ...")
]
Also = Annotated[
    list[str] | None,
    typer.Option(metavar="FORMAT", help="Write the trajectory as extxyz, dcd or xtc as well; repeatable."),
]
Continue = Annotated[
    bool,
    typer.Option(
        "--continue",
        help="Go on with the simulation in the folder, from where it stopped; `--steps` are those of the whole run.",
    ),
]
TimeLimit = Annotated[
    str | None,
    typer.Option(metavar="HH:MM:SS", help="End the run then, with all its files, to be continued."),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE",
        help="Write the folder and job.sh for sbatch with this option, as `time=24:00:00`; repeatable.",
    ),
]


def md(
    context: typer.Context,
    model: Model = None,
    structure: Start = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to work in.")],
    ensemble: Kind = "npt",
    temperature: Temperature = "300",
    pressure: Annotated[str, typer.Option(help="bar; barostat of npt; 1..5000 is a ramp.", metavar="P")] = "1",
    timestep: Timestep = None,
    steps: Annotated[int, typer.Option(help="Time steps; of a minimisation, the most it may take.")] = 10000,
    ranks: Annotated[int, typer.Option(help="MPI processes.")] = 1,
    replicate: Replicate = (1, 1, 1),
    species: Species = None,
    seed: Annotated[int, typer.Option(help="Of the initial velocities.")] = 1,
    every: Every = None,
    dump_every: DumpEvery = None,
    tdamp: Annotated[float, typer.Option(help="fs; relaxation time of the thermostat.")] = 100.0,
    pdamp: Annotated[float, typer.Option(help="fs; relaxation time of the barostat.")] = 1000.0,
    coupling: Annotated[
        Coupling, typer.Option(help="What npt changes: volume, three edges, or edges and angles.")
    ] = "iso",
    relax: Annotated[bool, typer.Option(help="Minimise the energy before the dynamics.")] = False,
    watch: Watch = None,
    lmp: Annotated[str | None, typer.Option(help="LAMMPS program.", show_default="lmp of this Python")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only write the input.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier simulation there.")] = False,
    also: Also = None,
    replicas: Replicas = 1,
    go_on: Continue = False,
    time_limit: TimeLimit = None,
    slurm: Slurm = None,
) -> None:  # fmt: skip
    """Write, run and plot a LAMMPS simulation of a structure.

    The folder then holds the commented input `in.lammps`, to edit and run by hand as well, `thermo.csv`, the
    trajectory, `final.extxyz`, restart files, plots, and `summary.json` with averages and their errors. The exit
    code is not 0 if LAMMPS fails or the run is not stable. Ctrl-C ends a run with a summary of what has been
    simulated, and `nnpkit md --continue -o FOLDER` goes on.
    """
    from nnpkit.cli.md_runs import Way, continue_runs, run_new
    from nnpkit.cli.model_argument import read_start
    from nnpkit.errors import InputError
    from nnpkit.md.queue_script import seconds_of
    from nnpkit.md.simulation_settings import Simulation

    way = Way(output, ranks, lmp, overwrite, replicas, slurm or [])
    limit = None if time_limit is None else seconds_of(time_limit)
    if go_on:
        _refuse_when_continuing(context)
        given = {name: _given(context, name) for name in ("steps", "ranks")}
        return continue_runs(way, steps if given["steps"] else None, ranks if given["ranks"] else None, limit)
    if model is None or structure is None:
        raise InputError("what is to be simulated?", expected="MODEL STRUCTURE", hint="see nnpkit md --help")
    _refuse_without_effect(context, ensemble)
    if slurm:
        refuse(context, "the job has its own: give --slurm time=...", "time_limit")
    warm, pressed = _ramp(temperature, "--temperature"), _ramp(pressure, "--pressure")
    start = read_start(structure, replicate, species.split() if species else None)
    if timestep is None:
        timestep = 0.5 if "H" in start.symbols else 1.0
    potential = _load_model(model, start, ensemble)
    simulation = Simulation(
        ensemble=ensemble, temperature=warm[0], pressure=pressed[0], timestep=timestep, steps=steps, seed=seed,
        tdamp=tdamp, pdamp=pdamp, coupling=coupling, relax=relax,
        every=_thermo_interval(ensemble, steps) if every is None else every,
        dump_every=max(1, steps // 200) if dump_every is None else dump_every,
        committee=potential.n_members > 1, ranges=bool(potential.metadata.get("feature_ranges")), watch=watch,
        total_charge=(start.total_charge or 0.0) if potential.metadata.get("electrostatics") else 0.0,
        temperature_end=warm[1], pressure_end=pressed[1], trajectories=tuple(dict.fromkeys(also or [])),
        time_limit=limit,
    )  # fmt: skip
    run_new(potential, start, simulation, way, dry=dry_run)


def _given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _refuse_when_continuing(context: typer.Context) -> None:
    """Refuse all that the folder of a simulation says itself."""
    kept = ("output", "steps", "ranks", "lmp", "go_on", "time_limit")
    if _given(context, "model") or _given(context, "structure"):
        from nnpkit.errors import InputError

        raise InputError(
            "--continue takes model and structure from the folder",
            hint="give nothing but -o FOLDER",
        )
    names = [p.name for p in context.command.params if p.name and p.param_type_name == "option"]
    refuse(context, "--continue goes on as the folder says", *(n for n in names if n not in kept))


def _ramp(text: str, where: str) -> tuple[float, float | None]:
    """Number, or both ends of ``300..900``."""
    from nnpkit.errors import InputError

    first, dots, last = text.partition("..")
    try:
        return float(first), float(last) if dots else None
    except ValueError:
        raise InputError(f"{text!r} is no number", where=where, expected="a number, or 300..900") from None


def _refuse_without_effect(context: typer.Context, ensemble: Ensemble) -> None:
    """Refuse options of what an ensemble does not have."""
    if ensemble == "minimize":
        refuse(
            context,
            "a minimisation has no temperature and no time",
            "temperature",
            "timestep",
            "seed",
            "relax",
            "replicas",
            "time_limit",
            "slurm",
        )
    if ensemble not in ("npt", "nvt"):
        refuse(context, "only npt and nvt have a thermostat", "tdamp")
    if ensemble != "npt":
        refuse(context, "only npt has a barostat", "pressure", "pdamp", "coupling")


_NO_STRESS = (
    "Warning: this potential has never seen a stress: pressure and density may be far off. Train on data with stress, "
    "or compare its stress with a reference calculation first"
)


def _thermo_interval(ensemble: str, steps: int) -> int:
    return 1 if ensemble == "minimize" else max(1, min(100, steps // 1000))


def _load_model(path: Path, start: Structure, ensemble: Ensemble) -> LoadedModel:
    """The potential, if it knows the elements of the start; whether it knows stresses, if they matter, is said."""
    import warnings

    from nnpkit.deploy.load import load
    from nnpkit.errors import InputError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = load(path)
    for note in model.notes:
        print(note)
    missing = sorted(set(start.symbols) - set(model.elements))
    if missing:
        raise InputError(
            f"the model knows {' '.join(model.elements)} but not {' '.join(missing)}", where=start.name,
            hint="use a structure of these elements or another model",
        )  # fmt: skip
    if ensemble == "npt" and model.metadata.get("training", {}).get("stress") is False:
        print(_NO_STRESS)
    return model
