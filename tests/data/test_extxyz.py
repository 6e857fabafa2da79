"""Extended XYZ: against ASE, without loss, and with a line number where it fails."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.io.extxyz import key_val_dict_to_str
from data_tools import assert_same, emt_copper, real_data, structures, water
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnpkit.data.formats.extxyz_header import parse_key_values
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

FRAME = """2
Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="T T T"
H 0.0 0.0 0.0 0.1 0.0 0.0
h 0.0 0.0 0.8 -0.1 0.0 0.0
"""


def file(folder: Path, text: str, name: str = "data.xyz") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(structures(), min_size=1, max_size=3))
def test_round_trip_loses_nothing(tmp_path: Path, frames: list[Structure]) -> None:
    path = tmp_path / "round.xyz"
    write(path, frames)
    for k, (frame, back) in enumerate(zip(frames, read(path), strict=True)):
        assert_same(frame, back)
        assert back.name == f"{path}#{k}"


def test_ase_reads_what_we_write(tmp_path: Path) -> None:
    frames = emt_copper(n=3, rattle=0.1)
    frames[0].info = {"text": 'two "words"', "number": 3, "flag": True, "vector": np.array([1.5, 2.0])}
    write(tmp_path / "a.xyz", frames)
    for frame, atoms in zip(frames, ase.io.read(tmp_path / "a.xyz", index=":"), strict=True):
        assert_same(frame, Structure.from_atoms(atoms))


def test_we_read_what_ase_writes(tmp_path: Path) -> None:
    frames = emt_copper(n=3, rattle=0.1)
    ase.io.write(tmp_path / "a.xyz", [frame.to_atoms() for frame in frames])
    images = ase.io.read(tmp_path / "a.xyz", index=":")
    for atoms, frame in zip(images, read(tmp_path / "a.xyz"), strict=True):
        assert_same(Structure.from_atoms(atoms), frame)


@pytest.mark.parametrize(
    "name", ["mlearn/Si_test", "n2p2_examples/H2O_RPBE-D3_20", "n2p2_examples/DMABN_SCAN_21"]
)
def test_same_as_ase_on_real_data(name: str) -> None:
    path = real_data(f"{name}.xyz.xz")
    with lzma.open(path, "rt") as stream:
        images = ase.io.read(stream, index=":", format="extxyz")
    for atoms, frame in zip(images, read(path), strict=True):
        assert_same(Structure.from_atoms(atoms), frame)


@pytest.mark.parametrize(("suffix", "module"), [(".xz", lzma), (".gz", gzip), (".bz2", bz2)])
def test_compressed(tmp_path: Path, suffix: str, module: object) -> None:
    path = tmp_path / f"a.xyz{suffix}"
    write(path, [water()])
    with module.open(path, "rt") as stream:  # type: ignore[attr-defined]
        assert stream.readline() == "3\n"
    assert_same(water(), read(path)[0])
    path.rename(tmp_path / "renamed.xyz")  # found by content
    assert_same(water(), read(tmp_path / "renamed.xyz")[0])


def test_compressed_file_is_reproducible(tmp_path: Path) -> None:
    for suffix in (".xz", ".gz", ".bz2"):
        for name in ("a", "b"):
            write(tmp_path / f"{name}.xyz{suffix}", [water()])
        assert (tmp_path / f"a.xyz{suffix}").read_bytes() == (tmp_path / f"b.xyz{suffix}").read_bytes()


def test_frame_in_detail(tmp_path: Path) -> None:
    (structure,) = read(file(tmp_path, FRAME))
    assert structure.symbols == ["H", "H"]
    assert structure.energy == -1.5
    assert structure.pbc.all()
    np.testing.assert_array_equal(structure.forces, [[0.1, 0, 0], [-0.1, 0, 0]])


def test_plain_xyz_and_atomic_numbers(tmp_path: Path) -> None:
    (structure,) = read(file(tmp_path, "1\nfrom a paper\nAu 1 2 3 0.5\n"))
    assert (structure.symbols, structure.info, structure.labels) == (["Au"], {"comment": "from a paper"}, ())
    assert not structure.pbc.any()
    (structure,) = read(file(tmp_path, "1\nproperties=Z:I:1:pos:R:3 lattice=[4,0,0,0,4,0,0,0,4]\n79 1 2 3\n"))
    assert structure.symbols == ["Au"]
    assert structure.volume == pytest.approx(64.0)


def test_voigt_stress_and_virial(tmp_path: Path) -> None:
    voigt = FRAME.replace("energy=-1.5", 'energy=-1.5 stress="1 2 3 4 5 6"')
    np.testing.assert_array_equal(read(file(tmp_path, voigt))[0].stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    virial = FRAME.replace("energy=-1.5", 'Energy=-1.5 Virial="125 0 0 0 250 0 0 0 375"')
    np.testing.assert_allclose(read(file(tmp_path, virial))[0].stress, -np.diag([1.0, 2.0, 3.0]), rtol=1e-15)


def test_names_of_labels_given(tmp_path: Path) -> None:
    path = file(tmp_path, FRAME.replace("energy=-1.5", "energy=-1.5 other=-2"))
    assert read(path, keys={"energy": "other"})[0].energy == -2.0
    with pytest.raises(InputError, match="no frame has 'absent'; expected it to be the energy"):
        read(path, keys={"energy": "absent"})
    with pytest.raises(InputError, match="unknown label 'eneryg'"):
        read(path, keys={"eneryg": "energy"})


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"k[a-z_0-9]{1,5}", fullmatch=True),
        st.one_of(
            st.integers(-99, 99), st.floats(-9, 9), st.booleans(), st.sampled_from(["a b", "x=y", "[1", 'q"'])
        ),
        min_size=1,
    )
)
def test_key_values_as_ase_writes_them(pairs: dict) -> None:
    assert parse_key_values(key_val_dict_to_str(pairs)) == pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        ("two\n\nH 0 0 0\n", r"line 1 \(frame 0\): found 'two'; expected the number of atoms"),
        ("0\n\n", "line 1 .*: the frame has 0 atoms; expected at least one"),
        (
            FRAME + FRAME.rsplit("\n", 2)[0] + "\n",
            r"line 5 \(frame 1\): the file ends after 1 of 2 atoms.*truncated",
        ),
        (FRAME + "2\n", r"line 5 \(frame 1\): the file ends after 0 of 2 atoms"),
        (FRAME.replace("0.0 0.0 0.8 -0.1 0.0 0.0", "0.0 0.0"), "line 4: 3 columns; expected 7"),
        (FRAME.replace("0.8", "0.8x"), "line 4: '0.0 0.0 0.8x' cannot be pos"),
        (FRAME.replace("-0.1", "nan"), "#0: forces of atom 1 is nan"),
        (FRAME.replace("-1.5", "inf"), "#0: energy is inf"),
        (FRAME.replace("h 0.0", "Q 0.0"), "'Q' .atom 1. is no chemical element"),
        (FRAME.replace("5 0 0 0 5 0 0 0 5", "5 0 0 0 5 0"), "line 2 .*the lattice .* expected nine numbers"),
        (FRAME.replace("5 0 0 0 5 0 0 0 5", "5 0 0 5 0 0 0 0 5"), "#0: the cell is degenerate"),
        (FRAME.replace("pos:R:3", "pos:Q:3"), "Properties=.* is not understood"),
        (FRAME.replace("species", "kind"), "neither species nor Z"),
        (
            FRAME.replace("energy=-1.5", "energy=low"),
            "#0: energy is 'low', no number that could be the energy",
        ),
        (FRAME.replace("energy=-1.5", 'energy="1 2"'), "#0: the energy .* is not one number"),
        (
            FRAME.replace("forces:R:3", "forces:R:2:x:R:1"),
            r"the forces have shape \(2, 2\); expected .*\(2, 3\)",
        ),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(InputError, match=message) as failure:
        read(path)
    assert "\n" not in str(failure.value)
    assert str(path) in str(failure.value)


def test_truncated_compression(tmp_path: Path) -> None:
    for suffix in (".xz", ".gz", ".bz2"):
        path = tmp_path / f"a.xyz{suffix}"
        write(path, emt_copper(n=2))
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(InputError, match=r"truncated|decompress"):
            read(path)


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    def frames():
        yield water()
        raise RuntimeError("disk full")

    from nnpkit.data.formats.extxyz import write_extxyz

    write_extxyz(tmp_path / "a.xyz.xz", [water()])
    before = (tmp_path / "a.xyz.xz").read_bytes()
    with pytest.raises(RuntimeError):
        write_extxyz(tmp_path / "a.xyz.xz", frames())
    assert [p.name for p in tmp_path.iterdir()] == ["a.xyz.xz"]
    assert (tmp_path / "a.xyz.xz").read_bytes() == before
