"""The page on GPUMD does what it says: its own blocks are run, one after the other."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alloy import write_alloy
from calorine_peer import calorine
from typer.testing import CliRunner

import nnpkit
from nnpkit.cli.main import app
from nnpkit.data.formats.reading import read, write
from nnpkit.deploy.imports.nep_file import read_nep_file

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "gpumd.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
SMALL = [
    "model.descriptor.n_max_radial=1", "model.descriptor.n_max_angular=1", "model.descriptor.l_max=2",
    "model.descriptor.basis_size_radial=3", "model.descriptor.basis_size_angular=3", "model.network.hidden=[3]",
    "training.epochs=1", "model.descriptor.radial_cutoff=4.5", "model.descriptor.angular_cutoff=4.0",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The current folder, where the commands of the page before those of LAMMPS have run."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("gpumd"))
    write_alloy(Path("all.extxyz"), 6)
    write("train.xyz", read("all.extxyz"), "gpumd-xyz")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    Path("nep.yaml").write_text(yaml)
    for command in COMMANDS:
        if command[0] != "md":
            changes = SMALL if command[0] == "train" else []
            result = CliRunner().invoke(app, [*command, *changes])
            assert result.exit_code == 0, (command, result.output)
    yield
    os.chdir(before)


def test_the_page_trains_converts_and_evaluates() -> None:
    assert [command[0] for command in COMMANDS] == [
        "train",
        "convert",
        "convert",
        "convert",
        "evaluate",
        "md",
    ]
    frame = read("train.xyz")[0]
    own = nnpkit.load("run").predict(frame)
    for name in ("nep.txt", "model.pt"):
        found = nnpkit.load(name).predict(frame)
        np.testing.assert_allclose(found.energies, own.energies, rtol=1e-11)
        np.testing.assert_allclose(found.forces, own.forces, atol=1e-10)
    assert abs(own.energy) > 1e-3


def test_the_file_has_the_wall_of_the_training_and_room_for_the_neighbours() -> None:
    nep, spec = read_nep_file("nep.txt"), nnpkit.load("run").metadata["spec"]
    assert spec["wall"]
    for pair, row in spec["wall"].items():
        a, b = (nep.elements.index(element) for element in pair.split("-"))
        assert nep.zbl[a, b].tolist() == row
        assert row[0] == 0.5 * row[1]
    # 4/3 pi 4.5^3 times the density of the closest packing at the shortest distance of the data
    shortest = min(nnpkit.load("run").metadata["min_distance"].values())
    assert nep.neighbors[0] == int(np.ceil(4 / 3 * np.pi * 4.5**3 * min(0.2, np.sqrt(2) / shortest**3)))


def test_calorine_runs_what_was_trained() -> None:
    frame = read("train.xyz")[0]
    (peer,), own = calorine([(Path("nep.txt").absolute(), frame)]), nnpkit.load("run").predict(frame)
    np.testing.assert_allclose(peer.energies, own.energies, rtol=1e-6)
    np.testing.assert_allclose(peer.forces, own.forces, atol=1e-5)
    np.testing.assert_allclose(peer.virial, own.virial, atol=1e-5)


def test_what_is_written_for_nep_is_read_back() -> None:
    for a, b in zip(read("all.extxyz"), read("again.xyz"), strict=True):
        assert a.energy == b.energy
        np.testing.assert_allclose(a.stress, b.stress, rtol=1e-12, atol=1e-15)


def test_lammps_runs_it() -> None:
    from argon import needs_lammps

    needs_lammps()
    (command,) = [c for c in COMMANDS if c[0] == "md"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    start = read("train.xyz")[-1]
    rows = [line.split() for line in Path("md/log.lammps").read_text().splitlines()]
    head = next(k for k, words in enumerate(rows) if words[:1] == ["Step"])
    energy = float(rows[head + 1][rows[head].index("PotEng")])
    assert energy == pytest.approx(nnpkit.load("nep.txt").predict(start).energy, rel=1e-9)
