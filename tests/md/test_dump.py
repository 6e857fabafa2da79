"""LAMMPS dumps as structures."""

from __future__ import annotations

import lzma

import numpy as np
import pytest

from nnpkit.data.formats import detect_format, read
from nnpkit.data.formats_dump import iterate_dump
from nnpkit.errors import InputError

CELL = np.array([[8.0, 0.0, 0.0], [-2.0, 7.0, 0.0], [1.5, -3.0, 9.0]])
ORIGIN = np.array([0.5, -1.0, 2.0])


def frame(step: int, columns: str = "id element xu yu zu vx vy vz", boundary: str = "pp pp pp") -> str:
    """One frame of two atoms, the second first, in a tilted box."""
    xy, xz, yz = CELL[1, 0], CELL[2, 0], CELL[2, 1]
    low = ORIGIN + np.array([min(0, xy, xz, xy + xz), min(0, yz), 0])
    high = ORIGIN + np.diag(CELL) + np.array([max(0, xy, xz, xy + xz), max(0, yz), 0])
    rows = "\n".join(f"{a} {b} {t}" for a, b, t in zip(low, high, (xy, xz, yz), strict=True))
    return (
        f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS xy xz yz {boundary}\n{rows}\n"
        f"ITEM: ATOMS {columns}\n2 H 1.5 0 {step} 0 0 1\n1 O 0.5 -1 2 1000 0 0\n"
    )


@pytest.fixture
def path(tmp_path):
    (tmp_path / "run.lammpstrj").write_text("".join(frame(step) for step in (0, 5, 10)))
    return tmp_path / "run.lammpstrj"


def test_frames(path) -> None:
    assert detect_format(path) == "lammps-dump"
    frames = read(path)
    assert [f.info["step"] for f in frames] == [0, 5, 10]
    assert frames[1].name.endswith("run.lammpstrj#1")
    assert frames[1].symbols == ["O", "H"]
    np.testing.assert_allclose(frames[1].cell, CELL, atol=1e-12)
    np.testing.assert_allclose(frames[1].positions, [[0, 0, 0], [1, 1, 3]], atol=1e-12)
    np.testing.assert_allclose(frames[1].arrays["velocities"], [[1, 0, 0], [0, 0, 0.001]])  # Å/fs
    assert frames[1].pbc.all()


def test_every_and_compression(path) -> None:
    packed = path.with_suffix(".lammpstrj.xz")
    packed.write_bytes(lzma.compress(path.read_bytes()))
    assert [f.info["step"] for f in iterate_dump(packed, every=2)] == [0, 10]


def test_open_boundaries_and_forces(tmp_path) -> None:
    (tmp_path / "a").write_text(frame(0, "id element x y z fx fy fz", "pp mm ff"))
    (only,) = iterate_dump(tmp_path / "a")
    assert only.pbc.tolist() == [True, False, False]
    assert only.forces.tolist() == [[1000, 0, 0], [0, 0, 1]]


def test_an_unfinished_frame_is_left_out(path) -> None:
    text = path.read_text()
    for cut in (len(text) - 1, len(text) - 30, text.rindex("ITEM: ATOMS"), text.rindex("ITEM: BOX")):
        path.write_text(text[:cut])
        assert [f.info["step"] for f in iterate_dump(path)] == [0, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ITEM: TIMESTEP", "TIMESTEP"), r"#0: not a LAMMPS dump"),
        (("element", "type"), r"#0: the columns are id type .* expected id element"),
        (("\n2 H 1.5", "\n2 H a"), r"#0: an atom line of this frame is broken"),
        (("1 O 0.5", "1 O"), r"#0: an atom line of this frame is broken"),
        (("ATOMS\n2\n", "ATOMS\ntwo\n"), r"#0: the header of this frame is broken"),
    ],
)
def test_other_text_is_refused(path, change, message) -> None:
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=message):
        list(iterate_dump(path))
