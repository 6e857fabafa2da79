"""Data stores: what is read back, and what becomes of damage, change, interruption and full disks."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from data_tools import assert_same, water
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.data.checks.suspicious import Finding, find_suspicious
from nnpkit.data.dataset import data_sha256, fit_reference_energies, load_dataset
from nnpkit.data.formats import contract, extxyz, runner_data
from nnpkit.data.formats.reading import read, write
from nnpkit.data.notes import DataWarning
from nnpkit.data.statistics import data_statistics
from nnpkit.data.store import building, frame_sample, stored_frames
from nnpkit.data.store.building import BuildSettings, build_store, changed_sources
from nnpkit.data.store.frame_sample import findings_among
from nnpkit.data.store.stored_frames import DataStore
from nnpkit.data.structure import LABELS, Structure
from nnpkit.errors import InputError


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards of few atoms."""
    for module in (contract, extxyz, runner_data):
        monkeypatch.setattr(module, "PIECE_ATOMS", 12)


def frames(n: int = 10) -> list[Structure]:
    """Molecules that differ, with an extra each."""
    rng = np.random.default_rng(5)
    found = []
    for k in range(n):
        one = water(-14.0 - 0.01 * k, f"frame#{k}")
        moved = one.positions + rng.normal(scale=0.02, size=(3, 3))
        found.append(one.replace(positions=moved, info={"config_type": f"kind{k % 2}", "step": k}))
    return found


def test_a_store_says_what_its_file_says(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames())
    store = build_store([tmp_path / "a.xyz"], tmp_path / "store")
    structures = read(tmp_path / "a.xyz")
    assert len(store.shards) == 3
    assert len(store) == 10
    for stored, structure in zip(store, structures, strict=True):
        assert_same(stored, structure)
        assert (stored.name, stored.info) == (structure.name, structure.info)
    assert data_sha256(store) == data_sha256(structures)
    manifest, expected = store.manifest, data_statistics(structures)
    assert manifest["statistics"]["n_atoms"] == 30
    assert manifest["statistics"]["min_distance"] == expected["min_distance"]
    assert manifest["statistics"]["energy_per_atom"] == pytest.approx(expected["energy_per_atom"], rel=1e-12)
    assert manifest["statistics"]["forces"] == pytest.approx(expected["forces"], rel=1e-12)
    energies = fit_reference_energies(structures, ["H", "O"])
    assert manifest["reference_energies"] == pytest.approx(energies, rel=1e-12)
    assert [f[:3] for f in manifest["suspicious"]] == [list(f[:3]) for f in find_suspicious(structures)]


def test_what_is_sliced_and_joined_is_made_when_it_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames(6))
    store = build_store([tmp_path / "a.xyz"], tmp_path / "store")
    both = load_dataset([tmp_path / "store", tmp_path / "a.xyz"])
    assert not isinstance(both, list)
    assert [s.info["step"] for s in both] == [0, 1, 2, 3, 4, 5] * 2
    assert [s.info["step"] for s in both[4:8]] == [4, 5, 0, 1]
    assert [s.info["step"] for s in load_dataset(tmp_path / "store", frames="1::2")] == [1, 3, 5]
    assert store[-1].info["step"] == 5
    with pytest.raises(IndexError):
        store[6]
    with pytest.raises(InputError, match="selects none of 6"):
        load_dataset(tmp_path / "store", frames="9:")
    for wrong in ({"units": "bohr-hartree"}, {"keys": {"energy": "E"}}, {"format": "extxyz"}):
        with pytest.raises(InputError, match="do not apply to a data store"):
            load_dataset(tmp_path / "store", **wrong)


def test_missing_labels_stay_missing(tmp_path: Path) -> None:
    some = frames(3)
    some[0].energy = some[1].forces = some[2].stress = None
    some[1].total_charge, some[2].multiplicity = -1.0, 3.0
    some[1].charges, some[0].dipole = np.array([-0.8, 0.4, 0.4]), np.array([0.1, 0.2, -0.3])
    assert {label for s in some for label in s.labels} == set(LABELS)
    write(tmp_path / "a.xyz", some)
    for stored, structure in zip(build_store([tmp_path / "a.xyz"], tmp_path / "s"), some, strict=True):
        assert_same(stored, structure)
        assert stored.labels == structure.labels
        assert stored.total_charge == structure.total_charge
        assert stored.multiplicity == structure.multiplicity


def test_single_precision_is_of_positions_and_forces_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames(3))
    stored = build_store([tmp_path / "a.xyz"], tmp_path / "s", BuildSettings(dtype="float32"))[1]
    structure = read(tmp_path / "a.xyz")[1]
    assert stored.energy == structure.energy
    assert np.array_equal(stored.stress, structure.stress)
    assert np.array_equal(stored.positions, structure.positions.astype(np.float32))
    with pytest.raises(InputError, match="float64 or float32"):
        build_store([tmp_path / "a.xyz"], tmp_path / "t", BuildSettings(dtype="float16"))


def test_every_format_in_pieces(tmp_path: Path) -> None:
    """Text, arrays, data bases and trajectories give what reading them at once gives, in units of theirs."""
    some = [s.replace(info={}) for s in frames(9)]
    write(tmp_path / "a.xyz.gz", some)
    write(tmp_path / "input.data", some)
    write(tmp_path / "system", some)
    ase.io.write(tmp_path / "a.traj", [s.to_atoms() for s in some])
    with ase.db.connect(tmp_path / "a.db") as rows:
        for structure in some:
            rows.write(structure.to_atoms())
    for name in ("a.xyz.gz", "input.data", "system", "a.traj", "a.db"):
        store = build_store([tmp_path / name], tmp_path / f"{name}.store")
        assert data_sha256(store) == data_sha256(read(tmp_path / name)), name
        assert [s.name for s in store] == [s.name for s in read(tmp_path / name)], name


def test_frames_of_each_file_are_counted_from_its_first(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames(10))
    write(tmp_path / "system", [s.replace(info={}) for s in frames(10)])
    for name in ("a.xyz", "system"):
        store = build_store([tmp_path / name], tmp_path / f"{name}.s", BuildSettings(frames="1:9:3"))
        assert [s.name for s in store] == [s.name for s in read(tmp_path / name, frames="1:9:3")]
    with pytest.raises(InputError, match="count from the end"):
        build_store([tmp_path / "a.xyz"], tmp_path / "t", BuildSettings(frames="-3:"))
    with pytest.raises(InputError, match="none that is selected"):
        build_store([tmp_path / "a.xyz"], tmp_path / "u", BuildSettings(frames="20:"))


def test_labels_of_the_whole_file_decide_as_when_it_is_read(tmp_path: Path) -> None:
    """Early frames have energy and REF_energy, late ones REF_energy alone: those of one method are taken."""
    lines = []
    for k in range(12):
        both = f"REF_energy={-1.0 - k}" + (f" energy={(-1.0 - k) * (1 + 1e-14)}" if k < 6 else "")
        rows = "".join(f"Ar {3.0 * i} 0.0 {0.01 * k}\n" for i in range(3))
        lines.append(f"3\nProperties=species:S:1:pos:R:3 {both} pbc=F\n{rows}")
    (tmp_path / "a.xyz").write_text("".join(lines))
    energies = [s.energy for s in build_store([tmp_path / "a.xyz"], tmp_path / "s")]
    assert energies == [-1.0 - k for k in range(12)] == [s.energy for s in read(tmp_path / "a.xyz")]
    with pytest.raises(InputError, match="no frame has 'E_mp2'"):
        build_store([tmp_path / "a.xyz"], tmp_path / "t", BuildSettings(keys={"energy": "E_mp2"}))
    (tmp_path / "b.xyz").write_text("".join(lines).replace("energy=-3.0 ", "energy=-7.0 "))
    with pytest.raises(InputError, match="the energy could be"):
        build_store([tmp_path / "b.xyz"], tmp_path / "u")
    chosen = build_store([tmp_path / "b.xyz"], tmp_path / "v", BuildSettings(keys={"energy": "REF_energy"}))
    assert chosen[2].energy in (-3.0, -7.0)


def test_two_processes_write_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames())
    one = build_store([tmp_path / "a.xyz"], tmp_path / "one")
    two = build_store([tmp_path / "a.xyz"], tmp_path / "two", processes=2)
    assert data_sha256(one) == data_sha256(two)
    assert one.manifest["statistics"] == two.manifest["statistics"]
    assert [shard["sha256"] for shard in one.shards] == [shard["sha256"] for shard in two.shards]


def test_damage_is_one_error_that_names_the_shard(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames())
    store = build_store([tmp_path / "a.xyz"], tmp_path / "store")
    path = tmp_path / "store" / store.shards[1]["file"]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=rf"{path.name}: this shard .* has another checksum"):
        list(DataStore(tmp_path / "store"))
    path.write_bytes(content[:-8])
    with pytest.raises(InputError, match=rf"{path.name}: .* has {len(content) - 8} of {len(content)} bytes"):
        DataStore(tmp_path / "store").require_sound()
    path.unlink()
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "store")])
    assert result.exit_code == 1
    assert f"{path.name}: a shard of the data store is missing" in result.stderr


def test_an_index_of_another_version_or_changed_by_hand(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames(3))
    build_store([tmp_path / "a.xyz"], tmp_path / "store")
    path = tmp_path / "store" / "store.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"version": 2}))
    with pytest.raises(InputError, match=r"a store of version 2; expected .*version 1"):
        load_dataset(tmp_path / "store")
    path.write_text(json.dumps(index | {"units": {"length": "bohr"}}))
    with pytest.raises(InputError, match="index of the data store was changed"):
        load_dataset(tmp_path / "store")
    path.write_text("{")
    with pytest.raises(InputError, match="index of the data store is damaged"):
        load_dataset(tmp_path / "store")


def test_a_source_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.xyz", frames())
    real = building.convert_piece

    def meddle(job):
        with open(tmp_path / "a.xyz", "a") as stream:
            stream.write(" ")
        return real(job)

    monkeypatch.setattr(building, "convert_piece", meddle)
    with pytest.raises(InputError, match=r"a.xyz: the file changed while it was converted"):
        build_store([tmp_path / "a.xyz"], tmp_path / "store")
    assert not (tmp_path / "store").exists()
    monkeypatch.undo()
    store = build_store([tmp_path / "a.xyz"], tmp_path / "store")
    assert changed_sources(store) == []
    write(tmp_path / "a.xyz", frames(4))
    assert changed_sources(store) == [str(tmp_path / "a.xyz")]


def test_an_interrupted_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.xyz", frames())
    whole = build_store([tmp_path / "a.xyz"], tmp_path / "whole")
    real, made = building.convert_piece, []

    def stop_at_the_second(job):
        if made:
            raise KeyboardInterrupt
        made.append(job.target)
        return real(job)

    monkeypatch.setattr(building, "convert_piece", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        build_store([tmp_path / "a.xyz"], tmp_path / "store")
    assert not (tmp_path / "store").exists()
    monkeypatch.setattr(building, "convert_piece", lambda job: made.append(job.target) or real(job))
    with pytest.raises(InputError, match="cannot go on: other sources or settings"):
        build_store([tmp_path / "a.xyz"], tmp_path / "store", BuildSettings(dtype="float32"))
    store = build_store([tmp_path / "a.xyz"], tmp_path / "store")
    assert len(made) == len(set(made)) == len(store.shards) == 3
    assert data_sha256(store) == data_sha256(whole)
    with pytest.raises(InputError, match="the data store exists"):
        build_store([tmp_path / "a.xyz"], tmp_path / "store")
    assert (
        len(build_store([tmp_path / "a.xyz"], tmp_path / "store", BuildSettings(frames=":2"), overwrite=True))
        == 2
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.xyz", "store", "whole"]


def test_an_interrupted_conversion_of_a_file_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.xyz", frames())

    def stop(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "convert_piece", stop)
    with pytest.raises(KeyboardInterrupt):
        build_store([tmp_path / "a.xyz"], tmp_path / "store")
    monkeypatch.undo()
    write(tmp_path / "a.xyz", frames(5))
    with pytest.raises(InputError, match=r"cannot go on: .*a.xyz changed since then"):
        build_store([tmp_path / "a.xyz"], tmp_path / "store")
    assert len(build_store([tmp_path / "a.xyz"], tmp_path / "store", overwrite=True)) == 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of file sizes are Linux'")
def test_a_full_disk(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(InputError, match=r"000000.safetensors: cannot write: File too large.*goes on"):
            build_store([tmp_path / "a.xyz"], tmp_path / "store")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "store").exists()
    assert len(build_store([tmp_path / "a.xyz"], tmp_path / "store")) == 10


DYING = """
import os, sys
from pathlib import Path
from nnpkit.data.formats import contract, extxyz
from nnpkit.data.store import building
from nnpkit.errors import InputError
contract.PIECE_ATOMS = extxyz.PIECE_ATOMS = 12
parent, real = os.getpid(), building.convert_piece

def convert(job):
    if os.getpid() != parent and job.target.endswith("-000001.safetensors"):
        os._exit(9)  # as the kernel does when memory is out
    return real(job)

building.convert_piece = convert
try:
    building.build_store([Path("a.xyz")], Path("store"), processes=2)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked on Linux")
def test_a_process_that_is_killed_while_it_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("a.xyz", frames())
    done = subprocess.run(
        [sys.executable, "-c", DYING], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("a process that converts frames was killed. ")
    assert "goes on where it was" in done.stdout
    assert done.stdout.count("\n") == 1
    assert not Path("store").exists()
    assert data_sha256(build_store(["a.xyz"], "store")) == data_sha256(read("a.xyz"))


def test_wrong_frames_are_refused_as_when_they_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames())
    text = (tmp_path / "a.xyz").read_text()
    (tmp_path / "cut.xyz").write_text(text[: len(text) - 300])
    (tmp_path / "words.xyz").write_text(text + "what is this\n")
    for name in ("cut.xyz", "words.xyz"):
        with pytest.raises(InputError) as whole:
            read(tmp_path / name)
        with pytest.raises(InputError) as piece:
            build_store([tmp_path / name], tmp_path / f"{name}.store")
        assert str(piece.value) == str(whole.value)
    with pytest.raises(InputError, match="no such file"):
        build_store([tmp_path / "none.xyz"], tmp_path / "store2")


def test_what_a_store_was_checked_for_is_not_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what depends on the cutoff is; beside files, everything."""
    far = [one.replace(positions=one.positions * [[1.0], [1.0], [9.0]]) for one in frames(3)]
    write(tmp_path / "a.xyz", far)
    store = build_store([tmp_path / "a.xyz"], tmp_path / "a.store")
    assert {f.kind for f in findings_among(store, 3.0)} >= {"few neighbours"}
    assert findings_among(store, 3.0) == [
        *(Finding(*found) for found in store.manifest["suspicious"]),
        *(f for f in find_suspicious(list(store), 3.0) if f.kind == "few neighbours"),
    ]
    monkeypatch.setattr(frame_sample, "find_suspicious", lambda *_: pytest.fail("checked again"))
    findings_among(store, 3.0)


def test_a_store_takes_no_place_of_a_link(tmp_path: Path) -> None:
    """Whether it points to a store, or nowhere: said before anything is converted."""
    write(tmp_path / "a.xyz", frames())
    build_store([tmp_path / "a.xyz"], tmp_path / "a.store")
    for name in ("a.store", "nowhere"):
        link = tmp_path / f"link to {name}"
        link.symlink_to(tmp_path / name)
        for overwrite in (False, True):
            with pytest.raises(InputError, match=f"a link.*Name the folder itself: {tmp_path / name}"):
                build_store([tmp_path / "a.xyz"], link, overwrite=overwrite)
    assert len(DataStore(tmp_path / "link to a.store")) == 10
    assert not list(tmp_path.glob(".*.building"))


def test_a_store_that_was_being_replaced_when_its_writer_was_killed_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames())
    build_store([tmp_path / "a.xyz"], tmp_path / "a.store")
    (tmp_path / ".a.store.old").mkdir()
    (tmp_path / ".a.store.old" / "store.json").touch()
    build_store([tmp_path / "a.xyz"], tmp_path / "a.store", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.store", "a.xyz"]


def test_extras_that_are_not_kept_are_named(tmp_path: Path) -> None:
    structure = water().replace(arrays={"move_mask": np.array([True, False, True])})
    write(tmp_path / "a.xyz", [structure])
    with pytest.warns(DataWarning, match="the extra move_mask is not kept"):
        build_store([tmp_path / "a.xyz"], tmp_path / "store")


def test_the_command(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", frames())
    os.chdir(tmp_path)
    result = CliRunner().invoke(
        app, ["data", "build", "*.xyz", "a.store", "--frames", ":8", "--processes", "1"]
    )
    assert result.exit_code == 0, result.output
    assert "8 frames in 2 shards" in result.output
    assert "8 frames in 2 shards: sound" in CliRunner().invoke(app, ["data", "check", "a.store"]).output
    os.utime("a.xyz", (0, 0))
    assert "a.xyz is not what it was" in CliRunner().invoke(app, ["data", "check", "a.store"]).stderr
    assert CliRunner().invoke(app, ["convert", "a.store", "b.xyz"]).exit_code == 0
    assert data_sha256(read("b.xyz")) == data_sha256(load_dataset("a.store"))
    assert (
        "energy=E_mp2"
        in CliRunner().invoke(app, ["data", "build", "a.xyz", "b", "--labels", "energy"]).stderr
    )


def test_few_shards_are_mapped_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.xyz", frames())
    monkeypatch.setattr(stored_frames, "_OPEN_SHARDS", 2)
    store = build_store([tmp_path / "a.xyz"], tmp_path / "store")
    assert [s.info["step"] for s in store] == list(range(10))
    assert len(store._open) == 2
