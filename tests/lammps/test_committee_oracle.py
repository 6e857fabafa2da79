"""A published committee of eight against n2p2's members and the energy of CP2K's regression test."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from ase.io import read
from harness import lmp, setup, write_data

from nnpkit.deploy.load import load
from nnpkit.deploy.targets.committee_file import export_committee

ORACLE = "oracles/cnnp_revPBE0-D3_water"
BOHR, HARTREE = 0.529177210903, 27.211386245988
INPUT = """
pair_style nnpkit {options}
pair_coeff * * committee.pt O H
compute u all pair nnpkit
thermo_style custom step pe press c_u[1] c_u[2] c_u[4]
fix 1 all nve
timestep 1e-6
"""


@pytest.fixture
def oracle(folder: Path) -> Path:
    """The folder of the reference; its committee and structure lie in `folder`."""
    if "NNPKIT_DATA" not in os.environ:
        pytest.skip("NNPKIT_DATA is not set: the potentials are not part of the repository")
    path = Path(os.environ["NNPKIT_DATA"]).resolve() / ORACLE
    models = [
        load(path / "generation-4" / "c-nnp-model" / f"nnp-{k}", units="bohr-hartree") for k in range(1, 9)
    ]
    export_committee(
        [m.atomic_model() for m in models], [m.metadata for m in models], folder / "committee.pt"
    )
    atoms = read(path / "cp2k_H2O-256.xyz")
    atoms.wrap()
    write_data(folder / "data.lmp", atoms)
    return path


@pytest.mark.parametrize("ranks", [1, 2])
def test_256_molecules(folder: Path, oracle: Path, ranks: int) -> None:
    expected = json.loads((oracle / "cp2k_H2O-256_reference.json").read_text())
    text = setup() + INPUT.format(options="") + "fix u all pair 1 nnpkit force_std 1\n"
    text += "dump d all custom 1 dump id fx fy fz f_u\ndump_modify d sort id format float %.17g\nrun 0\n"
    text += (
        "print '@energy $(pe:%.17g)'\nprint '@largest $(c_u[1]:%.17g)'\nprint '@energy_std $(c_u[4]:%.17g)'\n"
    )
    result = lmp(folder, text, ranks)
    assert result.returncode == 0, result.output
    values, table = result.values(), result.dump()
    # its geometry was made with another bohr, 4e-9 apart
    assert values["energy"] == pytest.approx(expected["n2p2_mean_energy"] * HARTREE, rel=1e-8)
    forces = np.array(expected["n2p2_mean_forces_hartree_per_bohr"]) * HARTREE / BOHR
    np.testing.assert_allclose(table[:, 1:4], forces, atol=2e-6)
    spread = np.linalg.norm(expected["n2p2_force_std"], axis=1) * HARTREE / BOHR
    np.testing.assert_allclose(table[:, 4], spread, atol=2e-6)
    assert values["largest"] == pytest.approx(spread.max(), rel=1e-5)
    std = np.std(expected["n2p2_member_energies"]) * HARTREE / 768
    assert values["energy_std"] == pytest.approx(std, rel=1e-4)


def test_pressure_of_the_members_is_that_of_the_mean(folder: Path, oracle: Path) -> None:
    """Step 1 with eight rows, and with the mean alone."""
    pressures = []
    for options in ("every 1", "every 1000"):
        ask = "run 1\n" + "".join(f"print '@{c} $({c}:%.17g)'\n" for c in ("pxx", "pyy", "pzz", "pxy", "pxz"))
        pressures.append(lmp(folder, setup() + INPUT.format(options=options) + ask).values())
    for component, pressure in pressures[0].items():
        assert pressure == pytest.approx(pressures[1][component], rel=1e-9, abs=1e-4), component
