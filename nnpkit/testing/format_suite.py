"""What every command expects of a format of files: inherit `FormatSuite`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnpkit.data.formats.contract import DataFormat, ReadOptions
from nnpkit.errors import InputError
from nnpkit.units import ANGSTROM_EV

__all__ = ["FormatSuite"]


class FormatSuite:
    """Tests of a `DataFormat` of files; subclasses define the fixtures ``format`` and ``example``."""

    @pytest.fixture
    def format(self) -> DataFormat:
        """The format."""
        raise pytest.UsageError("a suite needs a format")

    @pytest.fixture
    def example(self, tmp_path: Path) -> Path:
        """A good file in `tmp_path`."""
        raise pytest.UsageError("a suite needs an example")

    def test_it_is_recognised_and_read(self, format: Any, example: Path) -> None:
        """Structures with finite positions, the same at every reading."""
        assert format.recognises(example)
        first, second = (format.read(example, ReadOptions()) for _ in range(2))
        assert first
        for structure, again in zip(first, second, strict=True):
            assert np.isfinite(structure.positions).all()
            np.testing.assert_array_equal(structure.positions, again.positions)

    def test_pieces_are_the_whole(self, format: Any, example: Path) -> None:
        """A format that is cut into pieces has the same frames, in the same order."""
        if format.pieces is None:
            assert format.read_piece is None
            return
        found = [
            s for piece in format.pieces(example) for s in format.read_piece(example, piece, ReadOptions())
        ]
        for structure, whole in zip(found, format.read(example, ReadOptions()), strict=True):
            np.testing.assert_array_equal(structure.positions, whole.positions)

    def test_what_it_writes_it_reads(self, format: Any, example: Path) -> None:
        """Positions, cells, energies and forces come back."""
        if format.write is None:
            return
        structures = format.read(example, ReadOptions())
        other = example.with_name("written" + example.suffix)
        format.write(other, structures, ANGSTROM_EV)
        for structure, again in zip(structures, format.read(other, ReadOptions()), strict=True):
            assert again.symbols == structure.symbols
            np.testing.assert_allclose(again.positions, structure.positions, rtol=0.0, atol=1e-7)
            np.testing.assert_allclose(again.cell, structure.cell, rtol=0.0, atol=1e-7)
            assert (again.energy is None) == (structure.energy is None)
            if structure.forces is not None:
                np.testing.assert_allclose(again.forces, structure.forces, rtol=0.0, atol=1e-7)

    @pytest.mark.parametrize("text", ["\0\1\2", "nonsense in one line\n", "H 0.0 nan\n"])
    def test_garbage_is_refused_in_one_line(self, format: Any, example: Path, text: str) -> None:
        """No other error than one that tells a user what to do, and nothing is read in silence."""
        bad = example.with_name("bad" + example.suffix)
        bad.write_text(text)
        with pytest.raises(InputError):
            format.read(bad, ReadOptions())
