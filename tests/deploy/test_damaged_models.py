"""Whatever a few wrong bytes make of a model, loading it gives a model or one message, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runner_by_hand import HandPotential
from small_models import cluster, small_model

from nnpkit.deploy.load import load
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError

WORDS = [b" ", b"\n", b"nan", b"1e999", b"-1", b"0", b"#", b"\x00", b"\xff", b"9" * 25, b"1.0D-3"]
change = st.tuples(
    st.integers(0, 2**31),
    st.one_of(st.integers(0, 7).map(lambda bit: 1 << bit), st.sampled_from(WORDS), st.none()),
)  # where; a bit to flip, a word to insert or some bytes to remove


def damaged(content: bytes, changes: list) -> bytes:
    """`content` after `changes`."""
    data = bytearray(content)
    for place, what in changes:
        i = place % len(data)
        if what is None:
            del data[i : i + 1 + place % 20]
        elif isinstance(what, int):
            data[i] ^= what
        else:
            data[i : i + 1] = what
        data = data or bytearray(b" ")
    return bytes(data)


def refusal(path: Path, **units: str) -> str:
    """Why `path` is refused, in one line; empty if it is not. Any other exception is a failure of the test."""
    try:
        load(path, **units)
    except InputError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("damaged")
    HandPotential().write(path / "runner")
    export_model(small_model(), path / "model.pt")
    return path


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["input.nn", "scaling.data", "weights.001.data"]),
    st.lists(change, min_size=1, max_size=4),
)
def test_runner_potentials(folder: Path, name: str, changes: list) -> None:
    path = folder / "runner" / name
    content = path.read_bytes()
    try:
        path.write_bytes(damaged(content, changes))
        assert len(refusal(folder / "runner", units="bohr-hartree").splitlines()) <= 1
    finally:
        path.write_bytes(content)


@settings(max_examples=80, deadline=None)
@given(st.lists(change, min_size=1, max_size=4))
def test_model_files(folder: Path, changes: list) -> None:
    path = folder / "damaged.pt"
    path.write_bytes(damaged((folder / "model.pt").read_bytes(), changes))
    assert len(refusal(path).splitlines()) <= 1


def test_undamaged(folder: Path) -> None:
    for path, units in ((folder / "model.pt", {}), (folder / "runner", {"units": "bohr-hartree"})):
        assert load(path, **units).predict(cluster()).forces.shape == (9, 3)
