"""The input that is written: units, choices, refusals."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.lammps import input_text, pair_commands
from nnpkit.md.simulation_settings import Simulation

WATER = Structure(["O", "H", "H"], np.eye(3), np.eye(3) * 9, True, name="väter.xyz#0")


def text_of(structure: Structure = WATER, **settings) -> str:
    return input_text(Simulation(**settings), structure, ["H", "O"], pair_commands("model.pt", ["H", "O"]), 4)


def commands(text: str) -> list[str]:
    """Lines without comments, words separated by one space."""
    lines = (re.sub(r"\s+", " ", line.split("#")[0]).strip() for line in text.splitlines())
    return [line for line in lines if line]


def variables(text: str) -> dict[str, str]:
    return dict(re.findall(r"^variable (\w+) +index (\S+)", text, re.MULTILINE))


def test_npt() -> None:
    text = text_of(temperature=310, pressure=2.5, timestep=0.25, steps=77, tdamp=50, pdamp=500, seed=9)
    assert variables(text) == {
        "temperature": "310", "timestep": "0.00025", "pressure": "2.5", "tdamp": "0.05", "pdamp": "0.5",
        "seed": "9", "steps": "77", "every": "10", "dump_every": "100",
    }  # fmt: skip
    lines = commands(text)
    assert "units metal" in lines
    assert "pair_coeff * * model.pt H O" in lines
    assert (
        "fix integrate all npt temp ${temperature} ${temperature} ${tdamp} iso ${pressure} ${pressure} ${pdamp}"
        in lines
    )
    assert "mpirun -n 4 lmp -in in.lammps" in text
    assert text.isascii()
    assert 'variable guard_temperature equal "!(c_thermo_temp < v_hottest)"' in lines
    assert 'variable hottest equal "ternary(10*v_temperature > 1000, 10*v_temperature, 1000)"' in lines


def test_what_each_ensemble_needs() -> None:
    assert "tdamp" not in variables(text_of(ensemble="nve"))
    assert "fix integrate all nve" in commands(text_of(ensemble="nve"))
    assert "fix integrate all nvt temp ${temperature} ${temperature} ${tdamp}" in commands(
        text_of(ensemble="nvt")
    )
    assert "guard_volume" not in text_of(ensemble="nvt")
    minimise = commands(text_of(ensemble="minimize", steps=50))
    assert "minimize 0.0 0.001 ${steps} $(10*v_steps)" in minimise
    assert 'if "$(fmax) > 0.001" then' in " ".join(minimise)
    assert not [line for line in minimise if line.startswith(("run", "velocity", "fix", "timestep"))]


def test_relaxation_comes_first_and_only_when_asked() -> None:
    lines = commands(text_of(relax=True))
    kinds = [line.split()[0] for line in lines]
    assert (
        kinds.index("minimize") < kinds.index("reset_timestep") < kinds.index("velocity") < kinds.index("run")
    )
    assert "minimize" not in [line.split()[0] for line in commands(text_of())]


def test_forces_are_dumped_before_atoms_may_change_rank() -> None:
    kinds = [line.split()[0] for line in commands(text_of())]
    assert kinds.index("write_dump") < kinds.index("write_data")


def test_open_boundaries() -> None:
    cluster = WATER.replace(pbc=np.zeros(3, dtype=bool))
    assert "boundary m m m" in commands(text_of(cluster, ensemble="nvt"))
    with pytest.raises(InputError, match=r"väter\.xyz#0: constant pressure needs .* --ensemble nvt"):
        text_of(cluster, ensemble="npt")


def test_one_atom_does_not_move() -> None:
    atom = Structure(["O"], np.zeros((1, 3)), cell=3.0 * np.eye(3), pbc=np.full(3, True))
    with pytest.raises(InputError, match=r"a single atom has no temperature.*--replicate"):
        text_of(atom, ensemble="nvt")
    text_of(atom, ensemble="minimize")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble": "nph"}, "unknown ensemble 'nph'; expected npt, nvt, nve, minimize"),
        ({"coupling": "xy"}, "unknown coupling 'xy'"),
        ({"steps": 0}, "--steps: steps is 0; expected > 0"),
        ({"timestep": -1.0}, "--timestep: timestep is -1.0"),
        ({"temperature": float("nan")}, "--temperature: temperature is nan"),
        ({"dump_every": 0}, "--dump-every: dump_every is 0"),
        ({"pressure": float("inf")}, "--pressure: pressure is inf"),
    ],
)
def test_senseless_settings_are_refused(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        Simulation(**settings)
