"""`nnpkit md`: write, run and plot a LAMMPS simulation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nnpkit.cli.output import refuse

if TYPE_CHECKING:
    from nnpkit.data.structure import Structure
    from nnpkit.deploy.load import LoadedModel
    from nnpkit.md.simulation_settings import Simulation

__all__ = ["md"]

Ensemble = Literal["npt", "nvt", "nve", "minimize"]
Coupling = Literal["iso", "aniso", "tri"]


def md(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(help="Potential: model.pt, a run folder, or a RuNNer potential folder.")
    ],
    structure: Annotated[
        str,
        typer.Argument(
            help="Start: any file nnpkit or ASE reads; FILE@5 is frame 5, else the last is taken."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to work in.")],
    ensemble: Annotated[
        Ensemble, typer.Option(help="What is kept constant, or an energy minimisation.")
    ] = "npt",
    temperature: Annotated[float, typer.Option(help="K; thermostat and initial velocities.")] = 300.0,
    pressure: Annotated[float, typer.Option(help="bar; barostat of npt.")] = 1.0,
    timestep: Annotated[
        float | None, typer.Option(help="fs.", show_default="0.5 with hydrogen, else 1")
    ] = None,
    steps: Annotated[int, typer.Option(help="Time steps; of a minimisation, the most it may take.")] = 10000,
    ranks: Annotated[int, typer.Option(help="MPI processes.")] = 1,
    replicate: Annotated[
        tuple[int, int, int], typer.Option(help="Repeat the cell along its three vectors.", metavar="A B C")
    ] = (1, 1, 1),
    species: Annotated[
        str | None,
        typer.Option(help="Elements of the atom types of a LAMMPS data file that does not say them.",
                     metavar="'O H'", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the initial velocities.")] = 1,
    every: Annotated[
        int | None, typer.Option(help="Steps between thermo lines.", show_default="steps/1000, at most 100")
    ] = None,
    dump_every: Annotated[
        int | None, typer.Option(help="Steps between frames.", show_default="steps/200")
    ] = None,
    tdamp: Annotated[float, typer.Option(help="fs; relaxation time of the thermostat.")] = 100.0,
    pdamp: Annotated[float, typer.Option(help="fs; relaxation time of the barostat.")] = 1000.0,
    coupling: Annotated[
        Coupling, typer.Option(help="What npt changes: volume, three edges, or edges and angles.")
    ] = "iso",
    relax: Annotated[bool, typer.Option(help="Minimise the energy before the dynamics.")] = False,
    watch: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of a committee: largest force disagreement, eV/Å, from which frames are collected, and "
                     "above which the run ends.", metavar="LOWER UPPER", show_default=False),
    ] = None,
    lmp: Annotated[str | None, typer.Option(help="LAMMPS program.", show_default="lmp of this Python")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only write the input.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier simulation there.")] = False,
) -> None:  # fmt: skip
    """Write, run and plot a LAMMPS simulation of a structure.

    The folder then holds the commented input `in.lammps`, to edit and run by hand as well, `thermo.csv`, the
    trajectory, `final.extxyz`, restart files, plots, and `summary.json` with averages and their errors. The exit
    code is not 0 if LAMMPS fails or the run is not stable.
    """
    from nnpkit.analysis.simulation import simulate
    from nnpkit.cli.model_argument import read_start
    from nnpkit.md.lammps_run import SimulationError
    from nnpkit.md.simulation_progress import SimulationProgress
    from nnpkit.md.simulation_settings import Simulation

    _refuse_without_effect(context, ensemble)
    start = read_start(structure, replicate, species.split() if species else None)
    if timestep is None:
        timestep = 0.5 if "H" in start.symbols else 1.0
    potential = _load_model(model, start, ensemble)
    simulation = Simulation(
        ensemble=ensemble, temperature=temperature, pressure=pressure, timestep=timestep, steps=steps, seed=seed,
        tdamp=tdamp, pdamp=pdamp, coupling=coupling, relax=relax,
        every=_thermo_interval(ensemble, steps) if every is None else every,
        dump_every=max(1, steps // 200) if dump_every is None else dump_every,
        committee=potential.n_members > 1, ranges=bool(potential.metadata.get("feature_ranges")), watch=watch,
        total_charge=(start.total_charge or 0.0) if potential.metadata.get("electrostatics") else 0.0,
    )  # fmt: skip
    if dry_run:
        return _write(potential, start, simulation, output, ranks, lmp, overwrite)
    with SimulationProgress(steps, relax) as progress:
        summary = simulate(
            potential, start, output, simulation, ranks=ranks, lmp=lmp, overwrite=overwrite, on_row=progress
        )
    _print_summary(summary, output)
    if summary["unstable"]:
        raise SimulationError(_unstable(summary["unstable"], output))


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
        )
    if ensemble not in ("npt", "nvt"):
        refuse(context, "only npt and nvt have a thermostat", "tdamp")
    if ensemble != "npt":
        refuse(context, "only npt has a barostat", "pressure", "pdamp", "coupling")


def _write(
    potential: LoadedModel, start: Structure, simulation: Simulation, output: Path, ranks: int, lmp: str | None,
    overwrite: bool,
) -> None:  # fmt: skip
    """Only the folder, for a run by hand."""
    from nnpkit.analysis.simulation import require_whole
    from nnpkit.md.lammps import FILES, input_files
    from nnpkit.md.lammps_run import lammps_command, prepare_folder

    require_whole(potential)
    lammps_command(ranks, lmp)
    prepare_folder(output, input_files(simulation, start, ranks=ranks), overwrite)
    potential.save(output / FILES["model"], start)
    print(f"Wrote {output}/in.lammps; run: cd {output} && mpirun -n {ranks} lmp -in in.lammps")


_NO_STRESS = (
    "Warning: this potential has never seen a stress: pressure and density may be far off. Train on data with stress, "
    "or compare its stress with a reference calculation first"
)


def _unstable(reason: str, output: Path) -> str:
    return (
        f"the run is not stable: {reason}. Try a shorter time step or --relax, and look at the last frames of "
        f"{output}/trajectory.lammpstrj; the model may not know such structures"
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


def _print_summary(summary: dict[str, Any], output: Path) -> None:
    """What most people look at first."""
    from nnpkit.analysis.plots import format_error

    lines = []
    for name, unit in (
        ("temperature", "K"), ("pressure", "bar"), ("density", "g/cm³"), ("potential_energy", "eV/atom"),
        ("energy_drift", "meV/atom/ps"),
    ):  # fmt: skip
        if summary.get(name) is not None:
            reason = summary["not_settled"].get(name)
            value = format_error(summary[name], summary[f"{name}_error"])
            lines.append(
                (name.replace("_", " "), f"{value} {unit}" + (f" (not settled: {reason})" if reason else ""))
            )
    if "energy_final" in summary:
        lines.append(("energy", f"{summary['energy_initial']:.6f} -> {summary['energy_final']:.6f} eV/atom"))
        lines.append(("largest force", f"{summary['max_force']:.2g} eV/Å"))
        lines.append(
            ("minimisation", "converged" if summary["converged"] else f"NOT converged: {summary['stopped']}")
        )
    if "us_per_atom_step" in summary:
        speed = f"{summary['us_per_atom_step']:.3g} us/atom/step"
        lines.append(
            ("speed", f"{summary['ns_per_day']:.3g} ns/day, {speed}" if "ns_per_day" in summary else speed)
        )
    if "force_std_max" in summary:
        lines.append(("disagreement", f"forces up to {summary['force_std_max']:.3g}, mean "
                      f"{summary['force_std_mean']:.3g} eV/Å"))  # fmt: skip
    if summary.get("extrapolations") is not None:
        each = f"{summary['extrapolations_per_atom_step']:.2g} per atom and step"
        lines.append(
            (
                "extrapolations",
                f"{summary['extrapolations']}" + (f", {each}" if summary["extrapolations"] else ""),
            )
        )
    if summary.get("ended"):
        lines.append(("ended early", summary["ended"]))
    for name, text in lines:
        print(f"{name:<17} {text}")
    for warning in summary["warnings"]:
        print(f"LAMMPS warning: {warning}")
    if summary.get("outside"):
        print(f"nnpkit: warning: {summary['outside']}", file=sys.stderr)
    print(f"Plots, trajectory and summary.json are in {output}")
