"""The record of a project: content addresses, one driver, transactions, damage and rebuilding."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from active_tools import shaken_copper

from nnpkit.active.label_files import LabelFiles, settings_id
from nnpkit.active.store import DATABASE, Store
from nnpkit.data.dataset import structure_sha256
from nnpkit.errors import InputError
from nnpkit.lock import FolderLock

HOLD = """
import sys, time
from nnpkit.lock import FolderLock
lock = FolderLock(sys.argv[1])
print(lock.acquire(), flush=True)
if sys.argv[2:] == ["fork"]:
    import os
    if os.fork() == 0:
        time.sleep(60)
time.sleep(60)
"""


def labelled(structure, energy=-1.5):
    return structure.replace(
        energy=energy, forces=np.zeros((structure.n_atoms, 3)), info={"label_seconds": 0.25}
    )


def test_settings_are_the_same_in_any_order() -> None:
    assert settings_id({"a": 1, "b": [2]}) == settings_id({"b": [2], "a": 1})
    assert settings_id({"a": 1}) != settings_id({"a": 1.5})


def test_labels_are_found_by_content(tmp_path) -> None:
    files, (a, b) = LabelFiles(tmp_path), shaken_copper(2)
    key = structure_sha256(a, labels=False)
    assert files.read("s", key) is None
    files.write("s", key, labelled(a))
    label = files.read("s", key)
    assert label is not None
    assert label.energy == -1.5
    assert np.array_equal(label.positions, a.positions)
    files.path("s", "0" * 64).write_text(files.path("s", key).read_text())
    with pytest.raises(InputError, match="does not hold the structure"):
        files.read("s", "0" * 64)
    files.fail("s", structure_sha256(b, labels=False), b, {"reason": "no"}, None)
    assert list(files.failed_keys("s")) == [structure_sha256(b, labels=False)]


def test_unknown_is_not_failed(tmp_path) -> None:
    store, structures = Store(tmp_path, create=True), shaken_copper(3)
    keys = store.add_structures([(s, {"kind": "given"}) for s in structures], 0)
    store.labels.write("s", keys[0], labelled(structures[0]))
    store.labels.fail("s", keys[1], structures[1], {"reason": "no SCF", "attempts": 2}, None)
    assert list(store.harvest("s", keys, 0).values()) == ["done", "quarantined", "unknown"]
    assert store.label_keys("s") == [keys[0]]
    (row,) = store.query("SELECT reason, attempts FROM labels WHERE state = 'quarantined'")
    assert tuple(row) == ("no SCF", 2)
    assert np.array_equal(store.structure(keys[2]).positions, structures[2].positions)


def test_a_failed_transaction_leaves_nothing(tmp_path) -> None:
    store = Store(tmp_path, create=True)
    with pytest.raises(InputError, match="UNIQUE"), store.transaction() as database:
        database.executemany("INSERT INTO facts VALUES (?, ?)", [("a", "1"), ("a", "2")])
    assert store.fact("a") is None
    store.note("a", [1, 2])
    assert Store(tmp_path).fact("a") == [1, 2]


def test_steps_are_done_once_ended(tmp_path) -> None:
    store = Store(tmp_path, create=True)
    store.begin_step(1, "label")
    assert store.step(1, "label") is None
    store.end_step(1, "label", {"n": 3})
    assert store.step(1, "label") == {"n": 3}


@pytest.mark.parametrize("fork", [[], ["fork"]])
def test_the_lock_ends_with_its_holder(tmp_path, fork) -> None:
    """A killed driver holds nothing, not even through a child that it forked."""
    path = tmp_path / "driver.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), *fork],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "True"
        store = Store(tmp_path, create=True)
        with pytest.raises(InputError, match=f"another driver works on this project by process {holder.pid}"):
            store.drive()
        assert FolderLock(path).holder()["pid"] == holder.pid
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert FolderLock(path).holder() is None
        store.drive()
        with pytest.raises(InputError, match="another driver"):
            Store(tmp_path).drive()
        store.lock.release()
        Store(tmp_path).drive()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(holder.pid, signal.SIGKILL)


def test_a_damaged_database_is_rebuilt_from_the_label_files(tmp_path) -> None:
    store, structures = Store(tmp_path, create=True), shaken_copper(3)
    keys = store.add_structures([(s, {}) for s in structures], 0)
    for key, structure in zip(keys[:2], structures[:2], strict=True):
        store.labels.write("s", key, labelled(structure))
    store.labels.fail("s", keys[2], structures[2], {"reason": "no"}, None)
    store.harvest("s", keys, 0)
    store.close()
    path = tmp_path / DATABASE
    path.write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    with pytest.raises(InputError, match=r"damaged.*--rebuild"):
        Store(tmp_path)
    rebuilt = Store.rebuild(tmp_path)
    assert rebuilt.label_keys("s") == sorted(keys[:2])
    assert rebuilt.label_keys("s", "quarantined") == [keys[2]]
    assert len(list(tmp_path.glob(f"{DATABASE}.damaged-*"))) == 1


def test_there_must_be_a_project(tmp_path) -> None:
    with pytest.raises(InputError, match="no active learning project"):
        Store(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_second_lock_waits(tmp_path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("60", "0.4"), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    began = time.monotonic()
    with FolderLock(path):
        assert time.monotonic() - began > 0.1
    holder.wait()
