"""``nep.txt``: what is read, what is written, what is refused and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nep_by_hand import random_nep, write_nep

from nnpkit.deploy.imports.nep_file import is_nep_file, read_nep_file
from nnpkit.deploy.targets.nep_text import nep_text
from nnpkit.errors import InputError


def test_every_number_is_where_the_format_has_it(tmp_path: Path) -> None:
    p = random_nep(["Si", "O"], zbl=(0.0, 0.0), cutoffs=(5.0, 4.0, 4.6, 3.0), switches=(2, 0, 1))
    found = read_nep_file(write_nep(tmp_path / "nep.txt", p))
    assert (found.version, found.elements, found.l_max, found.many_body) == (
        4,
        ["Si", "O"],
        4,
        ("222", "112"),
    )
    assert found.n_features == 4 + 3 * 6
    assert found.neighbors == (200, 100)
    assert found.cutoffs.tolist() == [[5.0, 4.0], [4.6, 3.0]]
    assert np.array_equal(found.w0, p["w0"])
    assert np.array_equal(found.b0, p["b0"])
    assert np.array_equal(found.w1, p["w1"])
    assert found.b1 == p["b1"]
    assert found.c_radial[1, 0, 2, 3] == p["radial"][2, 3, 1, 0]
    assert found.c_angular[0, 1, 2, 1] == p["angular"][2, 1, 0, 1]
    assert np.array_equal(found.scaler, p["scaler"])
    assert np.array_equal(found.zbl[0, 1], p["pairs"][1])
    assert np.array_equal(found.zbl[1, 0], p["pairs"][1])
    assert np.array_equal(found.zbl[1, 1], p["pairs"][2])


def test_the_factor_of_zbl_counts_covalent_radii(tmp_path: Path) -> None:
    p = random_nep(["Si", "O", "Cu"], zbl=(0.3, 2.4, 0.9))
    ends = read_nep_file(write_nep(tmp_path / "nep.txt", p)).zbl[..., 1]
    # radii of DFT-D3 times 4/3: Si 1.04, O 0.63 and Cu 1.01 Å
    assert ends[0, 1] == pytest.approx(0.9 * 4 / 3 * (1.04 + 0.63), abs=1e-5)
    assert ends[1, 1] == pytest.approx(0.9 * 4 / 3 * 2 * 0.63, abs=1e-5)
    assert ends[0, 2] == ends[2, 2] == 2.4  # 2.46 and 2.42 would be longer than the outer distance
    assert np.all(read_nep_file(tmp_path / "nep.txt").zbl[..., 0] == 0.0)


def test_one_network_of_nep3_is_that_of_all_elements(tmp_path: Path) -> None:
    p = random_nep(["Si", "O"], version=3)
    found = read_nep_file(write_nep(tmp_path / "nep.txt", p))
    assert np.array_equal(found.w0[1], p["w0"][0])
    assert np.array_equal(found.w1[0], p["w1"][0])


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("zbl", [None, (0.5, 1.9), (0.0, 0.0), (0.2, 2.5, 0.7)])
@pytest.mark.parametrize("switches", [(0, 0), (2, 1), (2, 1, 0, 1), (0, 1, 1, 1, 1, 1)])
def test_what_is_written_is_what_was_read(tmp_path: Path, version: int, zbl: tuple, switches: tuple) -> None:
    cutoffs = (5.0, 4.0) if version == 3 else (5.0, 4.0, 4.7, 3.9)
    p = random_nep(["Si", "O"], version=version, zbl=zbl, switches=switches, cutoffs=cutoffs)
    first = read_nep_file(write_nep(tmp_path / "nep.txt", p))
    text = nep_text(first, "here")
    (tmp_path / "again.txt").write_text(text)
    second = read_nep_file(tmp_path / "again.txt")
    for name, value in vars(first).items():
        assert np.array_equal(np.asarray(value), np.asarray(getattr(second, name))), name
    assert text.splitlines()[0].split()[0] == f"nep{version}" + "_zbl" * (zbl is not None)
    assert f"l_max 4 {' '.join(map(str, switches))}" in text
    assert ("zbl 0.5 1.9" in text) == (zbl == (0.5, 1.9))


KINDS = [
    ("nep4_dipole 1 Cu", "dipoles"), ("nep3_polarizability 1 Cu", "polarizabilities"),
    ("nep4_charge1 1 Cu", "charges"), ("nep4_zbl_charge2 1 Cu", "charges"), ("nep4_vdw 1 Cu", "dispersion"),
    ("nep4_temperature 1 Cu", "temperature"), ("nep4_zbl_temperature 1 Cu", "temperature"),
    ("nep4 1 Cu\nspin_mode 3 2", "magnetic moments"), ("nep4_spin 1 Cu", "magnetic moments"),
    ("nep5 1 Cu", "NEP5"), ("nep5_zbl 1 Cu", "NEP5"),
    ("nep 1 Cu", "NEP2"), ("nep_zbl 1 Cu", "NEP2"), ("potential 1 Cu", "begins with 'potential'"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "why"), KINDS)
def test_models_of_other_kinds_are_refused_with_the_reason(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "nep.txt"
    write_nep(path, random_nep(["Cu"]))
    path.write_text("\n".join([line, *path.read_text().splitlines()[1:]]))
    with pytest.raises(InputError, match=why) as error:
        read_nep_file(path)
    assert f"line {len(line.splitlines())}" in str(error.value)
    assert "nep3, nep3_zbl, nep4 or nep4_zbl" in str(error.value)


LINES = [
    ("nep4_zbl 2 Si O", "nep4_zbl 2 Si", "1 symbols"), ("nep4_zbl 2 Si O", "nep4_zbl 2 Si Si", "different"),
    ("nep4_zbl 2 Si O", "nep4_zbl 2 Si Xx", "'Xx' is no element"), ("nep4_zbl 2 Si O", "nep4_zbl two Si O", "two"),
    ("nep4_zbl 2 Si O", "nep4_zbl", "no elements"), ("nep4_zbl 2 Si O", "nep4 2 Si O", "line 2.*found 'zbl'"),
    ("zbl 0.5 1.9", "zbl 2.5 1.9", "inner < outer"), ("zbl 0.5 1.9", "zbl 0.5", "zbl with 1"),
    ("zbl 0.5 1.9", "zbl 0.5 4.5", "angular cutoff"), ("zbl 0.5 1.9", "zbl nan 1.9", "zbl is nan"),
    ("cutoff 5.0 4.0 200 100", "cutoff 4.0 5.0 200 100", "0 < angular <= radial"),
    ("cutoff 5.0 4.0 200 100", "cutoff 5.0 4.0", "cutoff with 2 numbers"),
    ("cutoff 5.0 4.0 200 100", "cutoff 5.0 4.0 200 100 2.5 2 0.6", "use_typewise_cutoff"),
    ("cutoff 5.0 4.0 200 100", "cutoff 5.0 inf 200 100", "a cutoff is inf"),
    ("n_max 3 2", "n_max 3", "two whole numbers"), ("n_max 3 2", "n_max 3 -1", "angular n_max is -1"),
    ("n_max 3 2", "n_max 3 3", "numbers follow"), ("basis_size 4 3", "basis_size 4 99", "basis_size is 99"),
    ("l_max 4 2 1", "l_max 4", "switches of 222"), ("l_max 4 2 1", "l_max 9 2 1", "l_max is 9"),
    ("l_max 4 2 1", "l_max 1 2 1", "the term 222 with l_max 1"), ("l_max 4 2 1", "l_max 4 3 1", "switch of 222"),
    ("ANN 5 0", "ANN 5 5", "one hidden layer"), ("ANN 5 0", "ANN 0 0", "neurons is 0"), ("ANN 5 0", "ANN 5", "ANN 5"),
    ("ANN 5 0", "NN 5 0", "expected the line ANN"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "why"), LINES)
def test_damaged_lines_are_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = write_nep(tmp_path / "nep.txt", random_nep(["Si", "O"], zbl=(0.5, 1.9)))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=why) as error:
        read_nep_file(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_and_damaged_numbers_are_named(tmp_path: Path) -> None:
    path = write_nep(tmp_path / "nep.txt", random_nep(["Si", "O"]))
    lines = path.read_text().splitlines()
    for change, why in [
        (lines[:-1], "truncated"), ([*lines, "1.0"], "header is of another file"), (lines[:4], "before the line l_max"),
        ([*lines[:9], "1.0 2.0", *lines[10:]], "line 10.*found '1.0 2.0'"),
        ([*lines[:9], "nan", *lines[10:]], "line 10.*finite"),
        ([*lines[:9], "one", *lines[10:]], "line 10.*found 'one'"), ([], "empty"),
    ]:  # fmt: skip
        path.write_text("\n".join(change))
        with pytest.raises(InputError, match=why):
            read_nep_file(path)


def test_files_are_recognised_by_their_first_word(tmp_path: Path) -> None:
    for name, text, expected in [
        ("a.txt", "nep4 1 Cu\n", True), ("b", "nep4_charge1 1 Cu\n", True), ("nep.txt", "", True),
        ("c.txt", "nephew of\n", False), ("d.txt", "", False), ("e.xyz", "2\n\n", False),
    ]:  # fmt: skip
        (tmp_path / name).write_text(text)
        assert is_nep_file(tmp_path / name) is expected, name
    assert not is_nep_file(tmp_path)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"n_max": (3, 20)}, "21 angular channels"), ({"neurons": 121}, "121 neurons"), ({"l_max": 9}, "9 for l_max"),
     ({"n_max": (110, 2)}, "features"), ({"basis_size": (17, 3)}, "18 functions")],
)  # fmt: skip
def test_what_gpumd_has_no_room_for_is_not_written(tmp_path: Path, change: dict, why: str) -> None:
    nep = read_nep_file(write_nep(tmp_path / "nep.txt", random_nep(["Si", "O"])))
    with pytest.raises(InputError, match=why):
        nep_text(replace(nep, **change), "here")
