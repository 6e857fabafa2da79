"""LAMMPS inputs: what a simulation is, and the commented `in.lammps` that runs it.

Everything the user chose is a LAMMPS variable at the top of the input, so that
``lmp -in in.lammps -var temperature 350`` runs a variation without an editor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnpkit._version import __version__
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.atoms import atom_types, fixed_atoms, group_commands
from nnpkit.md.box import data_text
from nnpkit.md.heat_flux import heat_flux_output
from nnpkit.md.simulation_settings import ENSEMBLES, HOTTEST, Simulation
from nnpkit.md.thermo import conserved_commands, thermo_commands

__all__ = ["FILES", "input_files", "input_text", "pair_commands", "time_limit_commands"]


FILES = {
    "input": "in.lammps",
    "data": "structure.data",
    "model": "model.pt",
    "log": "log.lammps",
    "trajectory": "trajectory.lammpstrj",
    "final": "final.lammpstrj",
    "final_data": "final.data",
}
"""File names inside a simulation folder."""

_HOLD = "fix             hold fixed setforce 0.0 0.0 0.0"

_MOST_LOST = 20000  # steps between two restart files

VOLUME_FACTOR = 3.0
"""A run whose volume grows or shrinks by this factor is stopped."""


def pair_commands(model: str, elements: Sequence[str], simulation: Simulation | None = None) -> list[str]:
    """LAMMPS commands that make the model file `model` act between atom types of these elements.

    With a `simulation` the fix ``watch`` looks at every step, or, because the members of a committee cost more, at the
    steps of thermo output; what it sees are the computes ``disagreement`` and ``extrapolation``.
    """
    coefficients = f"pair_coeff      * * {model} {' '.join(elements)}"
    if simulation is None:
        return ["pair_style      nnpkit", coefficients]
    charge = f" charge {simulation.total_charge:.10g}" if simulation.total_charge else ""
    lines = [
        f"pair_style      nnpkit every 0{charge}  # what is observed, and when, is said below",
        coefficients,
    ]
    if simulation.committee:
        lines.append("compute         disagreement all nnpkit force_std_max force_std_mean energy_std")
    if simulation.ranges:
        lines.append("compute         extrapolation all nnpkit extrapolations")
    if simulation.ranges or simulation.watch is not None:
        bounds = " watch force_std_max {:g} {:g}".format(*simulation.watch) if simulation.watch else ""
        lines.append(
            f"fix             watch all nnpkit/watch {'${every}' if simulation.committee else 1}{bounds}"
        )
    return lines


def _section(title: str, *lines: str) -> list[str]:
    return ["", f"# ---- {title} ".ljust(100, "-"), *lines]


def _variables(simulation: Simulation) -> list[str]:
    values: list[tuple[str, object, str]] = []
    if simulation.dynamics:
        values += [
            ("temperature", f"{simulation.temperature:g}", "K"),
            ("timestep", f"{simulation.timestep / 1000:g}", "ps"),
        ]
    if simulation.temperature_end is not None:
        values.append(("temperature_end", f"{simulation.temperature_end:g}", "K, at the end of the ramp"))
    if simulation.ensemble == "npt":
        values.append(("pressure", f"{simulation.pressure:g}", "bar"))
    if simulation.pressure_end is not None:
        values.append(("pressure_end", f"{simulation.pressure_end:g}", "bar, at the end of the ramp"))
    if simulation.ensemble in ("npt", "nvt"):
        values.append(("tdamp", f"{simulation.tdamp / 1000:g}", "ps, relaxation time of the thermostat"))
    if simulation.ensemble == "npt":
        values.append(("pdamp", f"{simulation.pdamp / 1000:g}", "ps, relaxation time of the barostat"))
    if simulation.dynamics:
        values.append(("seed", simulation.seed, "of the initial velocities"))
    values += [
        ("steps", simulation.steps, ""),
        ("every", simulation.every, "steps between lines of thermodynamic output"),
        ("dump_every", simulation.dump_every, "steps between frames of the trajectory"),
    ]
    width = max(12, *(len(name) for name, _, _ in values))
    note = "Change a value here, or on the command line: lmp -in in.lammps -var steps 100000"
    return _section(
        "settings", f"# {note}", *(f"variable {name:<{width}} index {value!s:<10} # {unit}".rstrip(" #")
                                  for name, value, unit in values)
    )  # fmt: skip


def _system(structure: Structure) -> list[str]:
    periodic = np.asarray(structure.pbc, dtype=bool)
    boundary = " ".join("p" if p else "m" for p in periodic)
    comment = "periodic" if periodic.all() else "p periodic, m open: the box grows with the atoms"
    return _section(
        "system",
        "units           metal          # eV, Angstrom, ps, bar, K, g/mol",
        "atom_style      atomic",
        f"boundary        {boundary:<14} # {comment}",
        "newton          on             # forces on ghost atoms go back to their owners",
        f"read_data       {FILES['data']}",
    )


def _potential(pair: Sequence[str], elements: Sequence[str]) -> list[str]:
    return _section(
        "potential",
        f"# Atom types: {', '.join(f'{i} = {e}' for i, e in enumerate(elements, 1))}.",
        *pair,
        "neighbor        1.0 bin        # Angstrom beyond the cutoff; rebuilt once an atom moved half of it",
        "neigh_modify    every 1 delay 0 check yes",
    )


def _trajectory(simulation: Simulation, elements: Sequence[str]) -> list[str]:
    lines = [
        f"dump            trajectory all custom ${{dump_every}} {FILES['trajectory']} id element xu yu zu vx vy vz",
        f"dump_modify     trajectory sort id element {' '.join(elements)} format float %.10g",
    ]
    for style in simulation.trajectories:
        extra = f"element {' '.join(elements)}" if style == "extxyz" else "unwrap yes"
        lines += [
            f"dump            {style} all {style} ${{dump_every}} trajectory.{style}",
            f"dump_modify     {style} sort id {extra}",
        ]
    if simulation.dynamics:
        every = max(1000, min(_MOST_LOST, simulation.steps // 10))
        lines.append(f"restart         {every} restart.a restart.b  # in turn")
    return lines


def _minimisation(largest_force: float, steps: str, evaluations: str) -> list[str]:
    return [
        f"# Ends when no force component is larger than {largest_force:g} eV/Angstrom.",
        "min_style       cg",
        "min_modify      norm inf",
        f"minimize        0.0 {largest_force:g} {steps} {evaluations}",
        f'if "$(fmax) > {largest_force:g}" then &',
        "  'print \"WARNING: the minimisation has not converged: a force component is $(fmax) eV/Angstrom\"'",
    ]


def _guards(simulation: Simulation, volume: float, temperature: str) -> list[str]:
    """`fix halt` commands; each condition is written so that it also holds for NaN."""
    factor, least = HOTTEST
    target = "v_temperature"
    if (simulation.temperature_end or 0.0) > simulation.temperature:
        target = "v_temperature_end"
    hottest = f"ternary({factor:g}*{target} > {least:g}, {factor:g}*{target}, {least:g})"
    conditions = [("temperature", f"!({temperature} < v_hottest)")]
    if simulation.ensemble == "npt":
        low, high = volume / VOLUME_FACTOR, volume * VOLUME_FACTOR
        conditions.append(("volume", f"!((vol > {low:.6g}) && (vol < {high:.6g}))"))
    comment = f"# Stop early when the run is not stable: {factor:g} times hotter than asked for, at least {least:g} K"
    if simulation.ensemble == "npt":
        comment += f", or volume off by more than a factor {VOLUME_FACTOR:g}"
    lines = [comment + ".", f'variable hottest equal "{hottest}"']
    for name, condition in conditions:
        lines.append(f'variable guard_{name} equal "{condition}"')
        lines.append(f"fix             guard_{name} all halt 10 v_guard_{name} != 0 error soft message yes")
    return lines


def _dynamics(simulation: Simulation, structure: Structure, trajectory: Sequence[str]) -> list[str]:
    fixed = fixed_atoms(structure)
    held = bool(fixed.any())
    group, temperature = ("mobile", " temp mobile_temp") if held else ("all", "")
    warm = "${temperature}" if simulation.temperature_end is None else "${temperature_end}"
    pressed = "${pressure}" if simulation.pressure_end is None else "${pressure_end}"
    integrate = {
        "nve": "nve",
        "nvt": f"nvt temp ${{temperature}} {warm} ${{tdamp}}",
        "npt": f"npt temp ${{temperature}} {warm} ${{tdamp}} {simulation.coupling} ${{pressure}} {pressed} ${{pdamp}}",
    }[simulation.ensemble]
    rotation = "no" if held or any(structure.pbc) or structure.n_atoms < 3 else "yes"
    lines = []
    if simulation.relax:
        hold, release = ([_HOLD], ["unfix           hold"]) if held else ([], [])
        lines += _section(
            "relaxation", *hold, *_minimisation(0.01, "100", "500"), *release, "reset_timestep  0"
        )
    lines += _section(
        "dynamics",
        f"velocity        {group} create ${{temperature}} ${{seed}} mom {'no' if held else 'yes'} rot {rotation} dist "
        f"gaussian{temperature}",
        "timestep        ${timestep}",
        f"fix             integrate {group} {integrate}",
        *(["compute_modify  integrate_temp extra/dof 0"] if held and simulation.ensemble != "nve" else []),
        *(conserved_commands() if simulation.own_conserved else []),
        *_guards(simulation, structure.volume, "c_mobile_temp" if held else "c_thermo_temp"),
        *trajectory,
        *time_limit_commands(simulation.time_limit),
        "run             ${steps}",
    )
    return lines


def time_limit_commands(seconds: float | None) -> list[str]:
    """The command that ends the run, with all its files, after so many seconds."""
    if seconds is None:
        return []
    return [f"timer           timeout {round(seconds)} every 20  # s; the run then ends with all its files"]


def _final(simulation: Simulation, elements: Sequence[str]) -> list[str]:
    lines = [
        f"write_dump      all custom {FILES['final']} id element xu yu zu vx vy vz fx fy fz &",
        f"                modify sort id element {' '.join(elements)} format float %.16g",
        f"write_data      {FILES['final_data']} nocoeff  # after write_dump: atoms may change rank, forces stay",
    ]
    if simulation.dynamics:
        lines += [
            "write_restart   final.restart",
            "# To go on from here: nnpkit md --continue. By hand:",
            "# write `read_restart final.restart` instead of read_data, take velocity",
            "# out (and the relaxation), give the output files other names, and run again.",
        ]
    return _section("end", *lines)


def input_text(
    simulation: Simulation, structure: Structure, elements: Sequence[str], pair: Sequence[str], ranks: int = 1
) -> str:
    """Text of the LAMMPS input of `simulation`.

    Parameters
    ----------
    simulation : Simulation
        What to do.
    structure : Structure
        Start; its periodicity, volume and composition enter the input.
    elements : sequence of str
        Element of LAMMPS type 1, 2, ...
    pair : sequence of str
        Commands that define the potential, see `pair_commands`.
    ranks : int
        For the command line in the header.

    Raises
    ------
    InputError
        If npt is asked for a structure that is not periodic in three dimensions, or dynamics of one atom.
    """
    if simulation.ensemble == "npt" and not all(structure.pbc):
        raise InputError(
            "constant pressure needs a structure that is periodic in three dimensions",
            where=structure.name or None, hint="use --ensemble nvt",
        )  # fmt: skip
    fixed = fixed_atoms(structure)
    if fixed.any() and (simulation.ensemble == "npt" or (fixed.all() and simulation.dynamics)):
        raise InputError(
            "all atoms are fixed" if fixed.all() else "atoms cannot be fixed where the cell changes",
            where=structure.name or None, hint="use --ensemble nvt, nve or minimize, or release them",
        )  # fmt: skip
    if simulation.dynamics and structure.n_atoms == 1:
        raise InputError(
            "a single atom has no temperature: its centre of mass is at rest", where=structure.name or None,
            hint="repeat the cell, e.g. --replicate 4 4 4" if any(structure.pbc) else "give more atoms",
        )  # fmt: skip
    formula = " ".join(f"{element}{count}" for element, count in sorted(structure.composition.items()))
    name = "".join(c if c.isprintable() and c.isascii() else "?" for c in structure.name) or "a structure"
    flux = heat_flux_output(elements) if simulation.heat_flux else None
    lines = [
        f"# {ENSEMBLES[simulation.ensemble]} of {structure.n_atoms} atoms ({formula}).",
        f"# Start: {name}. Written by nnpkit {__version__}.",
        f"# Run it in this folder:  mpirun -n {ranks} lmp -in {FILES['input']}",
        *_variables(simulation),
        *_system(structure),
        *(_section("atoms that do not move", *group_commands(fixed)) if fixed.any() else []),
        *_potential(pair, elements),
        *_section(
            "thermodynamic output",
            *thermo_commands(simulation, pair, "c_mobile_temp" if fixed.any() else "temp", flux),
        ),
    ]
    trajectory = _trajectory(simulation, elements)
    if simulation.dynamics:
        lines += _dynamics(simulation, structure, trajectory)
    else:
        hold = [_HOLD] if fixed.any() else []
        lines += _section(
            "minimisation", *trajectory, *hold, *_minimisation(1e-3, "${steps}", "$(10*v_steps)")
        )
    return "\n".join([*lines, *_final(simulation, elements)]) + "\n"


def input_files(
    simulation: Simulation, structure: Structure, pair: Sequence[str] | None = None, ranks: int = 1
) -> dict[str, str]:
    """Name and text of the files that LAMMPS needs beside the model.

    `pair` defaults to `pair_style nnpkit` with the ``model.pt`` of the same folder. Atom types are the
    elements of the structure in alphabetic order, an element of several masses with a type for each.

    Raises
    ------
    InputError
        See `input_text` and `nnpkit.md.box.lammps_box`.
    """
    elements = [element for element, _ in atom_types(structure)[0]]
    pair = pair_commands(FILES["model"], elements, simulation) if pair is None else pair
    triclinic = simulation.ensemble == "npt" and simulation.coupling == "tri"
    return {
        FILES["input"]: input_text(simulation, structure, elements, pair, ranks),
        FILES["data"]: data_text(structure, sorted(set(structure.symbols)), triclinic),
    }
