"""The heat flux that LAMMPS is asked for is the rate at which energy moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness import ELEMENTS, lmp, potential, random_structure, setup, write_data

from nnpkit.md.heat_flux import CURRENT, heat_flux_output

STEP = 2e-5  # ps


def test_it_moves_the_centre_of_energy(folder: Path) -> None:
    """``J = d/dt sum_i x_i e_i`` of a cluster, by a difference over two steps; currents are sums of velocities."""
    atoms = random_structure(16, [9.0, 9.0, 9.0], seed=5, pbc=False)
    write_data(folder / "data.lmp", atoms)
    commands, columns = heat_flux_output(ELEMENTS)
    text = setup(boundary="f f f") + potential() + "\n".join(commands)
    text += f"""
velocity all create 1200 4711
timestep {STEP}
fix 1 all nve
dump d all custom 1 dump id type x y z vx vy vz c_flux_potential c_flux_kinetic
dump_modify d sort id format float %.17g
thermo_style custom step {" ".join(columns)}
thermo_modify format float %.17g
thermo 1
run 2
"""
    result = lmp(folder, text)
    assert result.returncode == 0, result.output
    frames = [
        np.array([[float(word) for word in line.split()] for line in part.splitlines()[1 : 1 + len(atoms)]])
        for part in (folder / "dump").read_text().split("ITEM: ATOMS")[1:]
    ]
    centres = [(frame[:, 2:5] * (frame[:, 8] + frame[:, 9])[:, None]).sum(axis=0) for frame in frames]
    lines = [line.split() for line in result.output.splitlines() if line.split()[:1] == ["1"]]
    row = np.array(
        [float(word) for word in next(line for line in lines if len(line) == 1 + len(columns))[1:]]
    )
    exact = (centres[2] - centres[0]) / (2.0 * STEP)
    np.testing.assert_allclose(row[:3], exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    for number in (1, 2):
        first = columns.index(CURRENT.format(type=number, axis="x"))
        mine = frames[1][frames[1][:, 1] == number, 5:8].sum(axis=0)
        np.testing.assert_allclose(row[first : first + 3], mine, rtol=1e-10)


def test_one_element_has_no_currents() -> None:
    assert len(heat_flux_output(["Cu"]).columns) == 3
    assert len(heat_flux_output(["Cu", "O"]).columns) == 9
