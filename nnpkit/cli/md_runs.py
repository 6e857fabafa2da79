"""What `nnpkit md` does with a simulation: write it, run it once or several times, continue it, say what came out."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnpkit.data.structure import Structure
    from nnpkit.deploy.load import LoadedModel
    from nnpkit.md.simulation_settings import Simulation

__all__ = ["Way", "continue_runs", "run_new"]


@dataclass(frozen=True)
class Way:
    """Where and how simulations are run."""

    output: Path
    ranks: int
    lmp: str | None
    overwrite: bool
    replicas: int
    slurm: Sequence[str]

    def folders(self) -> list[Path]:
        """Folder of each replica."""
        return (
            [self.output / str(n) for n in range(1, self.replicas + 1)]
            if self.replicas > 1
            else [self.output]
        )


def run_new(potential: LoadedModel, start: Structure, simulation: Simulation, way: Way, dry: bool) -> None:
    """Write the folders of a new simulation and run it, unless that is done later, by hand or by a queue."""
    from nnpkit.analysis.simulation import simulate

    _refuse_more_replicas(way)
    simulations = [replace(simulation, seed=simulation.seed + n) for n in range(way.replicas)]
    if dry or way.slurm:
        _write(potential, start, simulations, way)
        return

    def one(number: int, folder: Path, tell: Any) -> dict[str, Any]:
        return simulate(
            potential, start, folder, simulations[number], ranks=way.ranks, lmp=way.lmp, overwrite=way.overwrite,
            on_row=tell,
        )  # fmt: skip

    _run_all(way.folders(), simulation, one, way.output)


def _numbered(folder: Path) -> list[Path]:
    """Folders of replicas in `folder`, in order."""
    from nnpkit.md.restarts import RECORD

    found = [path.parent for path in folder.glob(f"*/{RECORD}") if path.parent.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))


def _refuse_more_replicas(way: Way) -> None:
    """Refuse to write some replicas among those of an earlier simulation."""
    from nnpkit.errors import InputError

    others = [path for path in _numbered(way.output) if path not in way.folders()]
    if others:
        raise InputError(
            f"this folder holds other replicas: {', '.join(path.name for path in others[:5])}", where=str(way.output),
            hint="choose another folder, or remove them",
        )  # fmt: skip


def continue_runs(way: Way, steps: int | None, ranks: int | None, limit: int | None) -> None:
    """Go on with the simulation, or the replicas, of a folder; those that are complete stay as they are."""
    from nnpkit.analysis.simulation import continue_simulation
    from nnpkit.errors import InputError
    from nnpkit.md.restarts import RECORD, read_record

    folders = [way.output]
    if not (way.output / RECORD).exists():
        folders = _numbered(way.output) or folders
    simulation = read_record(folders[0])[0]

    def one(_: int, folder: Path, tell: Any) -> dict[str, Any]:
        try:
            return continue_simulation(
                folder, steps=steps, ranks=ranks, time_limit=limit, lmp=way.lmp, on_row=tell
            )
        except InputError as error:
            if len(folders) > 1 and error.what.startswith("the run is complete"):
                return _summary(folder)
            raise

    _run_all(folders, replace(simulation, steps=steps or simulation.steps), one, way.output)


def _summary(folder: Path) -> dict[str, Any]:
    import json

    return dict(json.loads((folder / "summary.json").read_text(encoding="utf-8")))


def _run_all(
    folders: Sequence[Path], simulation: Simulation, one: Callable[[int, Path, Any], dict[str, Any]], output: Path
) -> None:  # fmt: skip
    """Run `one` in each folder with its progress, say what came out, and end with the right exit code."""
    from nnpkit.analysis.run_averages import average_of_replicas
    from nnpkit.md.lammps_run import SimulationError
    from nnpkit.md.simulation_progress import SimulationProgress

    summaries = []
    for number, folder in enumerate(folders):
        if len(folders) > 1:
            print(f"replica {number + 1} of {len(folders)}")
        with (
            _sigterm_is_an_interrupt(),
            SimulationProgress(simulation.steps, simulation.relax, simulation.timestep) as progress,
        ):
            summary = one(number, folder, progress)
        _print_summary(summary, folder)
        if summary["unstable"]:
            raise SimulationError(_unstable(summary["unstable"], folder))
        if summary.get("stopped_early"):
            print(f"go on with: nnpkit md --continue -o {quote(str(output))}")
            if "interrupted" in summary["stopped_early"]:
                raise typer.Exit(130)
        summaries.append(summary)
    if len(folders) > 1:
        for line in average_of_replicas(output, summaries):
            print(line)


class _sigterm_is_an_interrupt:  # noqa: N801
    """Context in which SIGTERM, which queues send, ends a run as Ctrl-C does."""

    def __enter__(self) -> None:
        import signal
        import threading

        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        import signal

        if self._main:
            signal.signal(signal.SIGTERM, self._before)


def _write(potential: LoadedModel, start: Structure, simulations: Sequence[Simulation], way: Way) -> None:
    """Only the folders, for runs by hand or by a queue."""
    from nnpkit.analysis.simulation import require_whole
    from nnpkit.files import atomic_write
    from nnpkit.md.lammps import FILES, input_files
    from nnpkit.md.lammps_run import lammps_command, prepare_folder
    from nnpkit.md.queue_script import queue_script
    from nnpkit.md.restarts import write_record

    require_whole(potential)
    lammps_command(way.ranks, way.lmp)
    script = queue_script(way.output, way.slurm, way.ranks, way.replicas) if way.slurm else None
    for folder, simulation in zip(way.folders(), simulations, strict=True):
        prepare_folder(folder, input_files(simulation, start, ranks=way.ranks), way.overwrite)
        potential.save(folder / FILES["model"], start)
        write_record(folder, simulation, way.ranks, start.pbc)
        if script is None:
            print(
                f"Wrote {folder}/in.lammps; run: cd {quote(str(folder))} && mpirun -n {way.ranks} lmp -in in.lammps"
            )
    if script is not None:
        with atomic_write(way.output / "job.sh") as stream:
            stream.write(script)
        print(f"Wrote {way.output}/job.sh; submit it: sbatch {quote(str(way.output / 'job.sh'))}")


def _unstable(reason: str, output: Path) -> str:
    return (
        f"the run is not stable: {reason}. Try a shorter time step or --relax, and look at the last frames of "
        f"{output}/trajectory.lammpstrj; the model may not know such structures"
    )


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
    if summary.get("stopped_early"):
        lines.append(("not complete", summary["stopped_early"]))
    if summary.get("verdict"):
        lines.append(("verdict", summary["verdict"]))
    for name, text in lines:
        print(f"{name:<17} {text}")
    for warning in summary["warnings"]:
        print(f"LAMMPS warning: {warning}")
    if summary.get("outside"):
        print(f"nnpkit: warning: {summary['outside']}", file=sys.stderr)
    print(f"Plots, trajectory and summary.json are in {output}")
    if "but too short" in (summary.get("verdict") or "") and not summary.get("ramp"):
        print(f"next: nnpkit md --continue -o {quote(str(output))} --steps {4 * summary['steps_asked']}")
