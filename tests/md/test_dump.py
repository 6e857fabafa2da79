"""LAMMPS dumps as structures."""

from __future__ import annotations

import lzma

import numpy as np
import pytest

from nnpkit.data.formats.lammps_dump import iterate_dump
from nnpkit.data.formats.reading import detect_format, read
from nnpkit.data.notes import DataWarning
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
    begin = text.index("ITEM: TIMESTEP\n10")
    for cut in (*range(begin + 1, text.rindex("1000") - 1, 7), len(text) - 5, text.rindex("ITEM: BOX")):
        path.write_text(text[:cut])
        with pytest.warns(DataWarning, match="#2: the unfinished last frame is left out"):
            assert [f.info["step"] for f in iterate_dump(path)] == [0, 5]


def test_a_last_line_without_its_end_is_read_and_named(path) -> None:
    path.write_text(path.read_text().rstrip("\n"))
    with pytest.warns(DataWarning, match="#2: the file does not end with an end of line"):
        assert [f.info["step"] for f in read(path)] == [0, 5, 10]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_frame_without_atoms_is_left_out_and_named(path, place) -> None:
    frames = [frame(step) for step in (0, 5)]
    empty = frame(7).partition("ATOMS\n2\n")[0] + "ATOMS\n0\n" + "\n".join(frame(7).split("\n")[4:9]) + "\n"
    frames.insert(place, empty)
    path.write_text("".join(frames))
    with pytest.warns(DataWarning, match=f"#{place}: a frame without atoms is left out"):
        assert [f.info["step"] for f in read(path)] == [0, 5]


UNITS = {  # of a length (Å), a velocity (Å/fs), a force (eV/Å), a time (fs)
    "metal": (1.0, 1e-3, 1.0, 1000.0),
    "real": (1.0, 1.0, 0.0433641042, 1.0),
    "electron": (0.5291772109, 0.5123986, 51.4220675, 1.0),
}


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("everywhere", [False, True])
def test_units_that_the_file_states(path, units, everywhere) -> None:
    columns = "id element x y z vx vy vz fx fy fz q"
    texts = [
        frame(step, columns)
        .replace("0 0 1\n", "0 0 1 0 2 0 0.4\n")
        .replace("1000 0 0\n", "1000 0 0 3 0 0 -0.8\n")
        for step in (2, 2)
    ]
    head = f"ITEM: UNITS\n{units}\nITEM: TIME\n0.5\n"
    path.write_text(head + texts[0] + (head if everywhere else "ITEM: TIME\n0.5\n") + texts[1])
    length, velocity, force, time = UNITS[units]
    for structure in read(path):
        np.testing.assert_allclose(structure.cell, CELL * length, rtol=1e-6)
        np.testing.assert_allclose(structure.positions, np.array([[0, 0, 0], [1, 1, 0]]) * length, atol=1e-9)
        np.testing.assert_allclose(structure.forces, np.array([[3, 0, 0], [0, 2, 0]]) * force, rtol=1e-6)
        velocities = np.array([[1000, 0, 0], [0, 0, 1]]) * velocity
        np.testing.assert_allclose(structure.arrays["velocities"], velocities, rtol=1e-5)
        np.testing.assert_allclose(structure.charges, [-0.8, 0.4])
        assert structure.info["time_fs"] == 0.5 * time


@pytest.mark.parametrize("units", ["lj", "si", "cgs", "micro", "nano", "imperial"])
def test_other_units_are_refused(path, units) -> None:
    path.write_text(f"ITEM: UNITS\n{units}\n{path.read_text()}")
    with pytest.raises(
        InputError, match=rf"#0: the dump is in units '{units}'.*expected ITEM: UNITS metal, real"
    ):
        read(path)


GENERAL = np.array([[6.0, 1.0, 0.5], [-1.5, 7.0, 0.8], [0.3, -1.2, 5.0]])


def general(columns: str, rows: str, boundary: str = " pp pp ff") -> str:
    box = "\n".join(
        f"{' '.join(map(str, a))} {o}" for a, o in zip(GENERAL.tolist(), ORIGIN.tolist(), strict=True)
    )
    return (
        f"ITEM: TIMESTEP\n3\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS abc origin{boundary}\n{box}\n"
        f"ITEM: ATOMS {columns}\n{rows}"
    )


def test_general_triclinic_box(path) -> None:
    path.write_text(general("id element x y z fx fy fz", "1 O 0.5 -1 2 1 0 0\n2 H 1.5 0 3 0 0 4\n"))
    (only,) = read(path)
    np.testing.assert_allclose(only.cell, GENERAL)
    np.testing.assert_allclose(only.positions, [[0, 0, 0], [1, 1, 1]], atol=1e-12)
    assert only.forces.tolist() == [[1, 0, 0], [0, 0, 4]]
    assert only.pbc.tolist() == [True, True, False]


@pytest.mark.parametrize("axes", ["xs ys zs", "xsu ysu zsu"])
def test_scaled_coordinates(path, axes) -> None:
    path.write_text(general(f"element id {axes}", "O 1 0 0 0\nH 2 0.5 0.25 0.75\n"))
    (only,) = read(path)
    np.testing.assert_allclose(only.positions, [[0, 0, 0], [0.5, 0.25, 0.75] @ GENERAL], atol=1e-12)
    tilted = frame(0, f"id element {axes} vx vy vz").replace("2 H 1.5 0 0", "2 H 0.5 0.25 0.75")
    path.write_text(tilted.replace("1 O 0.5 -1 2", "1 O 0 0 0"))
    (only,) = read(path)
    np.testing.assert_allclose(only.positions, [[0, 0, 0], [0.5, 0.25, 0.75] @ CELL], atol=1e-12)


ORTHOGONAL = "ITEM: BOX BOUNDS{}\n0 5\n0 6\n0 7\n"


def test_box_without_flags_is_periodic_and_named(path) -> None:
    tilted = frame(0, boundary="").replace("yz \n", "yz\n")
    box = tilted[tilted.index("ITEM: BOX") : tilted.index("ITEM: ATOMS")]
    for text, volume in (
        (tilted, 8.0 * 7.0 * 9.0),
        (tilted.replace(box, ORTHOGONAL.format("")), 5.0 * 6.0 * 7.0),
        (general("id element x y z", "1 O 0 0 0\n2 H 1 0 0\n", ""), abs(np.linalg.det(GENERAL))),
    ):
        path.write_text(text)
        with pytest.warns(DataWarning, match="without boundary flags: taken as periodic"):
            (only,) = read(path)
        assert only.pbc.all()
        assert only.volume == pytest.approx(volume)


@pytest.mark.parametrize(
    ("title", "rows"),
    [
        (" pp pp", "0 5\n0 6\n0 7"), (" pp pp pp", "0 5 1\n0 6 0\n0 7 0"), (" xy xz yz pp pp pp", "0 5\n0 6\n0 7"),
        (" abc origin pp pp pp", "0 5 0\n0 6 0\n0 7 0"), (" pp pp qq", "0 5\n0 6\n0 7"),
        (" xy xz pp pp pp", "0 5\n0 6\n0 7"),
        (" pp pp pp", "0 5\n0 6 1\n0 7"), ("", "0\n0\n0"),
    ],
)  # fmt: skip
def test_a_box_that_does_not_fit_together_is_refused(path, title, rows) -> None:
    text = frame(0)
    box = text[text.index("ITEM: BOX") : text.index("ITEM: ATOMS")]
    path.write_text(text.replace(box, f"ITEM: BOX BOUNDS{title}\n{rows}\n"))
    with pytest.raises(InputError, match="#0: the header of this frame is broken"):
        read(path)


def test_forces_that_are_not_all_there_are_named(path) -> None:
    path.write_text(frame(0, "id element x y z fx fy vz"))
    with pytest.warns(DataWarning, match="not all of fx fy fz"):
        assert read(path)[0].forces is None


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


def test_an_id_that_stands_twice_is_refused(path) -> None:
    path.write_text(frame(0).replace("\n2 H", "\n1 H"))
    with pytest.raises(InputError, match="#0: an id stands in more than one line"):
        read(path)


def test_computed_columns_are_named(path) -> None:
    path.write_text(frame(0, "id element xu yu zu c_pe f_mean[1] v_e"))
    with pytest.warns(DataWarning, match=r"columns c_pe, f_mean\[1\], v_e are not read"):
        assert read(path)[0].labels == ()


def test_units_of_the_user_and_of_the_dump_are_not_both_applied(path) -> None:
    assert read(path, units="bohr-hartree")[0].cell[0, 0] == pytest.approx(8.0 * 0.529177210903)
    path.write_text("ITEM: UNITS\nreal\n" + path.read_text())
    with pytest.raises(InputError, match=r"units are given, and the dump states its own \(real\)"):
        read(path, units="bohr-hartree")
    assert read(path)[0].cell[0, 0] == pytest.approx(8.0)
