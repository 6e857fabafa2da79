"""``train.xyz`` of GPUMD: the words of its manual are read with their meaning, and written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.data.formats.gpumd_xyz import write_gpumd
from nnpkit.data.formats.reading import read, write
from nnpkit.data.notes import DataWarning
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

ATOMS = "Cu 0.0 0.0 0.0 0.1 0.2 0.3\nO 2.0 2.0 2.0 -0.1 -0.2 -0.3\n"
CELL = 'lattice="4 0 0 0 5 0 0 0 10"'  # 200 Å³
VIRIAL = '"2.0 0.2 0.4 0.2 4.0 0.6 0.4 0.6 6.0"'
STRESS = [[-0.01, -0.001, -0.002], [-0.001, -0.02, -0.003], [-0.002, -0.003, -0.03]]  # -virial/volume


@pytest.mark.parametrize(
    "words",
    [
        f"energy=-3.5 {CELL} virial={VIRIAL} properties=species:S:1:pos:R:3:forces:R:3",
        f"energy=-3.5 {CELL} virial={VIRIAL} properties=species:S:1:pos:R:3:force:R:3",
        f"ENERGY=-3.5 {CELL.upper()} Virial={VIRIAL} PROPERTIES=species:S:1:pos:R:3:Force:R:3 pbc=\"T T T\"",
        f"Energy = -3.5 {CELL} virial = {VIRIAL} Properties=species:S:1:pos:R:3:forces:R:3 config_type=bulk",
        f'{CELL} energy=-3.5 stress="-0.01 -0.001 -0.002 -0.001 -0.02 -0.003 -0.002 -0.003 -0.03" '
        "Properties=species:S:1:pos:R:3:forces:R:3",
        f'{CELL} energy=-3.5 virial={VIRIAL} stress="-0.01 -0.001 -0.002 -0.001 -0.02 -0.003 -0.002 -0.003 -0.03" '
        "Properties=species:S:1:pos:R:3:forces:R:3",
    ],
    ids=["forces", "force", "case", "blanks", "stress", "both"],
)  # fmt: skip
def test_what_the_manual_says_is_read(tmp_path: Path, words: str) -> None:
    (tmp_path / "train.xyz").write_text(f"2\n{words}\n{ATOMS}")
    (frame,) = read(tmp_path / "train.xyz")
    assert frame.symbols == ["Cu", "O"]
    assert frame.energy == -3.5
    assert frame.forces[1].tolist() == [-0.1, -0.2, -0.3]
    assert np.diag(frame.cell).tolist() == [4.0, 5.0, 10.0]
    assert frame.pbc.all()
    np.testing.assert_allclose(frame.stress, STRESS, rtol=1e-14)


def test_columns_may_stand_in_any_order_beside_others(tmp_path: Path) -> None:
    text = f"1\nenergy=1.0 weight=2.5 {CELL} properties=forces:R:3:bec:R:9:species:S:1:pos:R:3\n"
    (tmp_path / "train.xyz").write_text(text + "1 2 3 0 0 0 0 0 0 0 0 0 Cu 4 5 6\n")
    (frame,) = read(tmp_path / "train.xyz", "gpumd-xyz")
    assert frame.forces.tolist() == [[1.0, 2.0, 3.0]]
    assert frame.positions.tolist() == [[4.0, 5.0, 6.0]]
    assert frame.info["weight"] == 2.5


def test_a_virial_with_the_sign_of_a_stress_is_not_believed(tmp_path: Path) -> None:
    stress = 'stress="0.01 0 0 0 0.02 0 0 0 0.03"'
    words = f"energy=1 {CELL} virial={VIRIAL} {stress} properties=species:S:1:pos:R:3:force:R:3"
    (tmp_path / "train.xyz").write_text(f"2\n{words}\n{ATOMS}")
    with pytest.raises(InputError, match="stress and virial contradict each other"):
        read(tmp_path / "train.xyz")


def frame(**changes: object) -> Structure:
    values = {
        "symbols": ["Cu", "O"], "positions": np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]]),
        "cell": np.diag([4.0, 5, 10]), "pbc": True,
        "energy": -3.123456789012345, "forces": np.array([[0.1, 0.2, 1 / 3], [-0.1, -0.2, -1 / 3]]),
        "stress": np.array(STRESS), "name": "a.xyz#0", **changes,
    }  # fmt: skip
    return Structure(**values)


def test_what_is_written_has_the_words_of_the_manual_and_all_digits(tmp_path: Path) -> None:
    original = frame(info={"config_type": "solid 1", "weight": 2.0, "energy_weight": 0.5, "method": "PBE"})
    write(tmp_path / "train.xyz", [original], "gpumd-xyz")
    lines = (tmp_path / "train.xyz").read_text().splitlines()
    assert lines[0] == "2"
    assert lines[1].startswith(
        'energy=-3.123456789012345 lattice="4.0 0.0 0.0 0.0 5.0 0.0 0.0 0.0 10.0" pbc="T T T"'
    )
    numbers = lines[1].split('virial="')[1].split('"')[0].split()
    np.testing.assert_allclose(
        [float(x) for x in numbers], [2.0, 0.2, 0.4, 0.2, 4.0, 0.6, 0.4, 0.6, 6.0], rtol=1e-14
    )
    assert "config_type=solid_1 weight=2.0 energy_weight=0.5" in lines[1]
    assert lines[1].endswith("properties=species:S:1:pos:R:3:forces:R:3")
    assert "method" not in lines[1]
    assert "stress" not in lines[1]
    (again,) = read(tmp_path / "train.xyz")
    assert again.energy == original.energy
    assert np.array_equal(again.forces, original.forces)
    np.testing.assert_allclose(again.stress, original.stress, rtol=1e-14)
    assert np.array_equal(again.positions, original.positions)


def test_nothing_periodic_gets_vacuum_on_all_sides(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="40 Å of vacuum"):
        write_gpumd(tmp_path / "train.xyz", [frame(cell=np.zeros((3, 3)), pbc=False, stress=None)])
    (again,) = read(tmp_path / "train.xyz")
    assert np.diag(again.cell).tolist() == [41.0, 42.0, 42.0]
    assert np.count_nonzero(again.cell) == 3
    assert again.pbc.all()


def test_what_is_said_of_many_frames_is_said_once(tmp_path: Path) -> None:
    molecules = [
        frame(cell=np.zeros((3, 3)), pbc=False, stress=None).replace(name=f"m#{k}") for k in range(9)
    ]
    with pytest.warns(DataWarning) as said:
        write(tmp_path / "train.xyz", molecules, "gpumd-xyz")
    assert [str(warning.message).rpartition(" (")[2] for warning in said] == ["9 frames, first #0)"]


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True)])
def test_what_is_periodic_stays_so(tmp_path: Path, pbc: tuple[bool, ...]) -> None:
    cell = np.array([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.5, 0.5, 9.0]])
    with pytest.warns(DataWarning, match="directions that are not"):
        write_gpumd(tmp_path / "train.xyz", [frame(cell=cell, pbc=pbc, stress=None)])
    (again,) = read(tmp_path / "train.xyz")
    for axis, periodic in enumerate(pbc):
        if periodic:
            assert np.array_equal(again.cell[axis], cell[axis])
    heights = 1.0 / np.linalg.norm(np.linalg.inv(again.cell), axis=0)
    assert np.all(heights[~np.array(pbc)] >= 40.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"energy": None}, "a.xyz#0: the frame has no energy"), ({"forces": None}, "no forces"),
     ({"info": {"weight": 0.0}}, "weight is 0.0"), ({"info": {"weight": 101.0}}, "at most 100"),
     ({"info": {"weight": "high"}}, "weight is high")],
)  # fmt: skip
def test_what_gpumd_refuses_is_not_written(tmp_path: Path, changes: dict, why: str) -> None:
    with pytest.raises(InputError, match=why):
        write_gpumd(tmp_path / "train.xyz", [frame(), frame(**changes)])
    assert not any(tmp_path.iterdir())


def test_convert_writes_and_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", [frame(), frame()])
    run = CliRunner().invoke
    result = run(
        app, ["convert", str(tmp_path / "a.extxyz"), str(tmp_path / "train.xyz"), "--to", "gpumd-xyz"]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "train.xyz").read_text().count("virial=") == 2
    result = run(app, ["convert", str(tmp_path / "train.xyz"), str(tmp_path / "b.extxyz")])
    assert result.exit_code == 0, result.output
    first, second = read(tmp_path / "a.extxyz")[1], read(tmp_path / "b.extxyz")[1]
    np.testing.assert_allclose(second.stress, first.stress, rtol=1e-14)
    assert second.energy == first.energy
    result = run(
        app,
        [
            "convert",
            str(tmp_path / "a.extxyz"),
            str(tmp_path / "c.xyz"),
            "--to",
            "gpumd-xyz",
            "--units",
            "real",
        ],
    )
    assert result.exit_code != 0
