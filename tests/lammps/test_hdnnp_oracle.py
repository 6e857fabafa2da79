"""A published n2p2 potential through our pair style against the log of LAMMPS' own ``pair_style hdnnp``."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from harness import lmp, setup, write_data

from nnpkit.deploy.load import load

ORACLE = "oracles/n2p2_H2O_RPBE-D3"
STEPS = 2
INPUT = """
mass 1 15.9994
mass 2 1.00794
pair_style nnpkit
pair_coeff * * model.pt O H
timestep 0.0005
fix 1 all nve
thermo 1
thermo_style custom step temp epair etotal press
thermo_modify format float %.12g line one
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_thermo_of_1080_atoms(folder: Path, ranks: int) -> None:
    if "NNPKIT_DATA" not in os.environ:
        pytest.skip("NNPKIT_DATA is not set: the potential and its log are not part of the repository")
    oracle = Path(os.environ["NNPKIT_DATA"]).resolve() / ORACLE
    load(oracle, cflength=1.8897261328, cfenergy=0.0367493254).save(folder / "model.pt")
    write_data(folder / "data.lmp", read(oracle / "H2O_1080.xyz"))
    result = lmp(folder, setup() + INPUT + f"run {STEPS}\n", ranks)
    assert result.returncode == 0, result.output
    log = (oracle / "lammps_hdnnp_reference_thermo.txt").read_text().splitlines()
    expected = [row for row in map(_numbers, log) if len(row) == 6]  # Step Temp E_pair E_mol TotEng Press
    found = [row for row in map(_numbers, result.output.splitlines()) if len(row) == 5]
    assert [row[0] for row in found] == list(range(STEPS + 1))
    for ours, theirs in zip(found, expected, strict=False):
        assert ours[1] == pytest.approx(theirs[1], rel=1e-6)
        assert f"{ours[2]:.8g}" == f"{theirs[2]:.8g}"
        assert ours[3] == pytest.approx(theirs[4], rel=1e-8)
        assert ours[4] == pytest.approx(theirs[5], abs=0.02)


def _numbers(line: str) -> list[float]:
    """Numbers of a line that holds nothing else."""
    try:
        return np.array(line.split(), dtype=float).tolist()
    except ValueError:
        return []
