"""Damaged files: whatever is wrong with them, the answer is one line that names the file."""

from __future__ import annotations

import lzma
import warnings
from pathlib import Path

import numpy as np
import pytest
from data_tools import water
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnpkit.data.formats.reading import read, write
from nnpkit.errors import InputError

AENET = "# total energy = -1.5 eV\nCRYSTAL\nPRIMVEC\n 5 0 0\n 0 5 0\n 0 0 5\nPRIMCOORD\n1 1\nO 0 0 0 0 0 1\n"
MUTATIONS = st.lists(
    st.tuples(
        st.floats(0.0, 1.0), st.integers(0, 12),
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from([b"\n", b" ", b"-", b"nan", b"1e999", b"=", b'"', b"{", b":", b"99999999", b"\xff", b"\0"]),
        ),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


def mutate(content: bytes, mutations: list[tuple[float, int, bytes]]) -> bytes:
    """Replace, at each relative place, some bytes by others."""
    for place, length, new in mutations:
        at = int(place * len(content))
        content = content[:at] + new + content[at + length :]
    return content


def read_or_refuse(path: Path, format: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            structures = read(path, format)
        except InputError as error:
            message = str(error)
        else:
            message = str(path)
            assert all(np.isfinite(s.positions).all() for s in structures)
    assert "\n" not in message
    assert str(path) in message


@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.xz", "input.data", "a.xsf"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations=MUTATIONS)
def test_damaged_text(tmp_path: Path, name: str, mutations: list[tuple[float, int, bytes]]) -> None:
    path = tmp_path / name
    if name == "a.xsf":
        path.write_text(AENET, encoding="utf-8")
    else:
        write(path, [water().replace(info={"word": "a b", "list": [1, "x"]}), water()])
    content = path.read_bytes()
    if len(mutations) % 2 and name.endswith(".xz"):  # inside the compression or of it
        content = lzma.compress(mutate(lzma.decompress(content), mutations))
    else:
        content = mutate(content, mutations)
    path.write_bytes(content)
    read_or_refuse(path, {"a.xsf": "aenet", "input.data": "runner"}.get(name, "extxyz"))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations=MUTATIONS, which=st.integers(0, 6))
def test_damaged_deepmd(tmp_path: Path, mutations: list[tuple[float, int, bytes]], which: int) -> None:
    folder = tmp_path / f"data{len(list(tmp_path.iterdir()))}"
    write(folder, [water(), water()], "deepmd")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files[which].write_bytes(mutate(files[which].read_bytes(), mutations))
    read_or_refuse(folder, "deepmd")
