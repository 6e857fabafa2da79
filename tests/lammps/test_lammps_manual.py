"""The snippets of the manual page run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from harness import lmp, random_structure, setup, write_data

PAGE = Path(__file__).parents[2] / "docs" / "pair_nnpkit.md"
TRICLINIC = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]


def snippet(part: str) -> str:
    """The one block of the page that contains `part`."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if part in block]
    return found


@pytest.fixture
def place(committee_folder: Path) -> Path:
    write_data(committee_folder / "data.lmp", random_structure(30, TRICLINIC, seed=21))
    return committee_folder


def test_reading_in_input_scripts(place: Path) -> None:
    dynamics = "velocity all create 100 1\ntimestep 0.0001\nfix 1 all nve\n"
    model = "pair_style nnpkit every 7\npair_coeff * * committee.pt O H\n"
    text = setup() + model + snippet("compute u all pair nnpkit\nthermo") + snippet("f_u[1]")
    text = text.replace("fix      u", "fix      p").replace("f_u[", "f_p[").replace(" 50 ", " 5 ")
    result = lmp(place, text + dynamics + "thermo 5\nrun 10\n", 2)
    assert result.returncode == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if re.fullmatch(r"[\s\d.e+-]+", line)]
    rows = [row for row in rows if len(row) == 7]
    assert [row[0] for row in rows] == ["0", "5", "10"]
    assert float(rows[-1][3]) > 0.1
    lines = (place / "dump.lammpstrj").read_text().splitlines()
    spread = np.array([float(line.split()[5]) for line in lines[-30:]])
    assert spread.max() == pytest.approx(float(rows[-1][3]), rel=1e-4)


def test_noticing_the_end(place: Path) -> None:
    text = setup() + "pair_style nnpkit max_force 0.1\npair_coeff * * committee.pt O H\nfix 1 all nve\n"
    result = lmp(place, text + snippet("nnpkit_ended"))
    assert result.returncode == 3, result.output
    assert "ended: the force on an atom is" in result.output
