"""Biased runs: what COLVARS of LAMMPS adds to the forces of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harness import lmp, potential, random_structure, setup, write_data
from toy import Reference

BOX = [9.0, 9.5, 10.0]
CENTER, K = 3.0, 2.5  # Å, eV/Å²
COLVARS = f"""colvar {{
  name d
  distance {{
    group1 {{ atomNumbers 1 }}
    group2 {{ atomNumbers 9 }}
  }}
}}
harmonic {{
  colvars d
  centers {CENTER}
  forceConstant {K}
}}
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_restraint_on_a_distance(folder: Path, ranks: int) -> None:
    atoms = random_structure(12, BOX, seed=3)
    write_data(folder / "data.lmp", atoms)
    (folder / "restraint.colvars").write_text(COLVARS)
    text = setup() + potential() + "fix bias all colvars restraint.colvars\nfix_modify bias energy yes\n"
    text += "dump d all custom 1 dump id fx fy fz\ndump_modify d sort id format float %.17g\nrun 0\n"
    text += 'variable e equal f_bias\nprint "@bias $(v_e:%.17g)"\n'
    result = lmp(folder, text, ranks)
    if "COLVARS" in result.output and "not part of" in result.output:
        pytest.skip("this LAMMPS has no COLVARS")
    assert result.returncode == 0, result.output
    vector = atoms.get_distance(0, 8, mic=True, vector=True)
    length = float(np.linalg.norm(vector))
    expected = Reference(atoms).forces.copy()
    pull = K * (length - CENTER) * vector / length
    expected[0] += pull
    expected[8] -= pull
    np.testing.assert_allclose(result.dump()[:, 1:4], expected, atol=1e-9)
    assert result.values()["bias"] == pytest.approx(0.5 * K * (length - CENTER) ** 2, rel=1e-9)
