"""Model files that earlier versions have written still load and give the numbers that they gave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load

FOLDER = Path(__file__).parent / "earlier_models"
NUMBERS = json.loads((FOLDER / "numbers.json").read_text(encoding="utf-8"))
STRUCTURES = [
    Structure(s["symbols"], np.array(s["positions"]), np.array(s["cell"]), s["periodic"])
    for s in NUMBERS["structures"]
]


def test_there_is_a_file_of_every_kind() -> None:
    assert {path.stem for path in FOLDER.glob("*.pt")} == set(NUMBERS["models"])


@pytest.mark.parametrize("kind", sorted(NUMBERS["models"]))
def test_an_earlier_file_gives_its_numbers(kind: str) -> None:
    model = load(FOLDER / f"{kind}.pt")
    assert not model.notes
    for result, expected in zip(model.predict(STRUCTURES), NUMBERS["models"][kind], strict=True):
        assert result.energy == pytest.approx(expected["energy"], rel=1e-12)
        for name in ("forces", "virial"):
            numbers = np.array(expected[name])
            tolerance = 1e-12 * np.abs(numbers).max()
            np.testing.assert_allclose(getattr(result, name), numbers, atol=tolerance, rtol=0)
