"""Columns and encodings as other programs write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from foreign_tools import FORCES, file, frame

from nnpkit.data.formats.reading import read
from nnpkit.errors import InputError


@pytest.mark.parametrize("column", ["Z", "numbers", "atomic_numbers", "z"])
def test_columns_of_atomic_numbers(tmp_path: Path, column: str) -> None:
    text = f"2\nProperties={column}:I:1:pos:R:3 energy=-1\n8 0 0 0\n1 0 0 1\n"
    assert read(file(tmp_path, text))[0].symbols == ["O", "H"]
    both = f"2\nProperties=species:S:1:pos:R:3:{column}:I:1\nO 0 0 0 8\nH 0 0 1 1\n"
    assert read(file(tmp_path, both))[0].symbols == ["O", "H"]
    with pytest.raises(InputError, match="atom 1 is H by name and He by number"):
        read(file(tmp_path, both.replace("1 1\n", "1 2\n")))
    with pytest.raises(InputError, match="out of range"):
        read(file(tmp_path, text.replace("\n8 ", "\n0 ")))


@pytest.mark.parametrize("column", ["species", "symbols", "Element"])
def test_plain_numbers_as_species(tmp_path: Path, column: str) -> None:
    text = f"2\nProperties={column}:S:1:positions:R:3\n8 0 0 0\n1 0 0 1\n"
    assert read(file(tmp_path, text))[0].symbols == ["O", "H"]
    with pytest.raises(InputError, match="atomic number 0 is out of range"):
        read(file(tmp_path, text.replace("\n8 ", "\n0 ")))


COMMENT = frame("energy=-1.5 note=Ångström")


@pytest.mark.parametrize(
    "content",
    [
        COMMENT.encode("utf-8"), COMMENT.encode("latin-1"), COMMENT.encode("utf-8-sig"), COMMENT.encode("utf-16"),
        COMMENT.replace("\n", "\r\n").encode("utf-8-sig"), COMMENT.replace("\n", "\r\n").encode("latin-1"),
        COMMENT.replace("\n", "\r").encode(), COMMENT.rstrip("\n").encode(), ("\n" + COMMENT + "\n\n").encode(),
    ],
)  # fmt: skip
def test_encodings_and_ends_of_lines(tmp_path: Path, content: bytes) -> None:
    (only,) = read(file(tmp_path, content))
    assert (only.energy, only.info["note"]) == (-1.5, "Ångström")
    np.testing.assert_allclose(only.forces, FORCES)


def test_other_separators_of_lines_are_no_ends_of_lines(tmp_path: Path) -> None:
    text = frame("energy=-1.5 note=a…b").encode("cp1252")  # the byte 0x85 is an end of line in Unicode
    assert read(file(tmp_path, text))[0].energy == -1.5


def test_binary_files_are_refused(tmp_path: Path) -> None:
    for content in (
        b"\x00\x01\x02" * 100,
        b"2\nenergy=1\n" + bytes(range(32)) * 20,
        np.random.default_rng(0).bytes(4000),
    ):
        with pytest.raises(InputError, match=r"not a text file|found"):
            read(file(tmp_path, content))
