"""What an active learning project knows: one folder, one SQLite database, and the label files beside it.

The database is a record, the files are the truth: labels are content-addressed files that appear by renaming,
and a damaged database is built again from them.  Everything a driver does is one transaction, so a killed
driver leaves the state before or after it, never between.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnpkit.active.label_files import LabelFiles
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.lock import FolderLock

__all__ = ["DATABASE", "Store"]

DATABASE = "active.sqlite"
_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS structures (
    key TEXT PRIMARY KEY, round INTEGER, n_atoms INTEGER NOT NULL, formula TEXT NOT NULL,
    origin TEXT NOT NULL, frame TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS labels (
    key TEXT NOT NULL, settings TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('done', 'quarantined')),
    round INTEGER, energy REAL, max_force REAL, seconds REAL, attempts INTEGER, reason TEXT, time REAL,
    PRIMARY KEY (key, settings));
CREATE TABLE IF NOT EXISTS models (
    round INTEGER PRIMARY KEY, path TEXT NOT NULL, members INTEGER, n_train INTEGER, errors TEXT, time REAL);
CREATE TABLE IF NOT EXISTS runs (
    task TEXT PRIMARY KEY, round INTEGER, kind TEXT NOT NULL, state TEXT NOT NULL, seconds REAL,
    cpu_seconds REAL, host TEXT, reason TEXT, time REAL);
CREATE TABLE IF NOT EXISTS decisions (
    round INTEGER NOT NULL, candidate TEXT NOT NULL, key TEXT NOT NULL, verdict TEXT NOT NULL,
    reason TEXT NOT NULL, disagreement REAL, PRIMARY KEY (round, candidate));
CREATE TABLE IF NOT EXISTS steps (
    round INTEGER NOT NULL, step TEXT NOT NULL, state TEXT NOT NULL, began REAL, ended REAL, detail TEXT,
    PRIMARY KEY (round, step));
"""


class Store:
    """The record of a project.

    Parameters
    ----------
    folder : path
        Folder of the project.
    create : bool
        Make folder and database if there are none.

    Raises
    ------
    InputError
        If there is no project, or the database is damaged or of another version.
    """

    def __init__(self, folder: str | Path, create: bool = False) -> None:
        self.folder = Path(folder)
        self.path = self.folder / DATABASE
        self.labels = LabelFiles(self.folder)
        self.lock = FolderLock(self.folder / "driver.lock")
        if not self.path.exists() and not create:
            raise InputError(
                "no active learning project here",
                where=str(folder),
                hint="start one with `nnpkit active run`",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self._connect()

    def _connect(self) -> None:
        with self._explained():
            self.database = sqlite3.connect(
                self.path, timeout=60.0, isolation_level=None, check_same_thread=False
            )
            self.database.row_factory = sqlite3.Row
            self.database.execute("PRAGMA journal_mode=WAL")
            self.database.execute("PRAGMA synchronous=FULL")
            problem = self.database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            version = self.database.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self.database.executescript(
                    f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={_VERSION}; COMMIT;"
                )
            elif version != _VERSION:
                raise InputError(
                    f"the database is of version {version}", where=str(self.path), expected=f"version {_VERSION}",
                    hint="use the nnpkit that wrote it",
                )  # fmt: skip

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of SQLite in words."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise InputError(
                f"the database cannot be used ({error})", where=str(self.path),
                hint="if the disk is full or the folder read-only, repair that, then `nnpkit active resume`",
            ) from error  # fmt: skip
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"the database is damaged ({error})", where=str(self.path),
                hint="build it again from the label files: `nnpkit active resume --rebuild`",
            ) from error  # fmt: skip

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def drive(self) -> None:
        """Become the driver of this project; InputError if there is one."""
        self.lock.require(
            "another driver works on this project",
            "look at it with `nnpkit active status`, end it with `nnpkit active stop`",
        )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All statements inside happen, or none."""
        with self._explained():
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield self.database
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise
            self.database.execute("COMMIT")

    def query(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        """Rows of a SELECT."""
        with self._explained():
            return self.database.execute(statement, values).fetchall()

    # ---- facts

    def fact(self, name: str) -> Any:
        """Value noted under `name`, None if there is none."""
        rows = self.query("SELECT value FROM facts WHERE name = ?", name)
        return json.loads(rows[0][0]) if rows else None

    def note(self, name: str, value: Any) -> None:
        """Note a JSON-able `value` under `name`."""
        with self.transaction() as database:
            database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    # ---- structures and labels

    def add_structures(
        self, structures: Iterable[tuple[Structure, Mapping[str, Any]]], round_: int | None
    ) -> list[str]:
        """Record structures with their origin; their keys. A structure that is known keeps its first origin."""
        keys = []
        with self.transaction() as database:
            for structure, origin in structures:
                key = structure_sha256(structure, labels=False)
                keys.append(key)
                formula = "".join(f"{e}{n}" for e, n in sorted(structure.composition.items()))
                database.execute(
                    "INSERT OR IGNORE INTO structures VALUES (?, ?, ?, ?, ?, ?)",
                    (key, round_, structure.n_atoms, formula, json.dumps(dict(origin)), json.dumps(_frame(structure))),
                )  # fmt: skip
        return keys

    def structure(self, key: str) -> Structure:
        """The structure of a key; KeyError if it is not known."""
        rows = self.query("SELECT frame FROM structures WHERE key = ?", key)
        if not rows:
            raise KeyError(key)
        return Structure(**json.loads(rows[0][0]), name=key[:12])

    def harvest(self, settings: str, keys: Iterable[str], round_: int | None) -> dict[str, str]:
        """Record the labels and failures whose files have appeared; state of every key, ``unknown`` without file.

        Unknown is not failed: nothing is recorded for such a key, and asking again later may find it.
        """
        states = {}
        rows = []
        for key in keys:
            if label := self.labels.read(settings, key):
                states[key] = "done"
                rows.append((key, settings, "done", round_, *_numbers(label), None, time.time()))
            elif failure := self.labels.failure(settings, key):
                states[key] = "quarantined"
                attempts, reason = failure.get("attempts", 1), failure.get("reason", "")
                rows.append(
                    (key, settings, "quarantined", round_, None, None, None, attempts, reason, time.time())
                )
            else:
                states[key] = "unknown"
        with self.transaction() as database:
            database.executemany(f"INSERT OR IGNORE INTO labels VALUES ({', '.join('?' * 10)})", rows)
        return states

    def label_keys(self, settings: str, state: str = "done") -> list[str]:
        """Keys with a label of these settings, sorted."""
        rows = self.query(
            "SELECT key FROM labels WHERE settings = ? AND state = ? ORDER BY key", settings, state
        )
        return [row[0] for row in rows]

    # ---- steps, runs, models, decisions

    def log_session(self, began: float, end: float | None = None) -> None:
        """Note when a driver began or ended; a killed one ended with the last that it noted."""
        sessions = self.fact("sessions") or []
        if end is not None and sessions:
            sessions[-1]["end"] = end
        else:
            noted = self.query("SELECT MAX(time) FROM runs")[0][0] or 0.0
            for session in sessions:
                session["end"] = session["end"] or max(session["begin"], noted)
            sessions.append({"begin": began, "end": None})
        self.note("sessions", sessions)

    def begin_step(self, round_: int, step: str) -> None:
        """Note that a step is under way; the first beginning is kept."""
        with self.transaction() as database:
            database.execute(
                "INSERT OR IGNORE INTO steps VALUES (?, ?, 'running', ?, NULL, NULL)",
                (round_, step, time.time()),
            )

    def end_step(self, round_: int, step: str, detail: Mapping[str, Any]) -> None:
        """Note that a step is done, and what came of it."""
        with self.transaction() as database:
            database.execute(
                "UPDATE steps SET state = 'done', ended = ?, detail = ? WHERE round = ? AND step = ?",
                (time.time(), json.dumps(dict(detail)), round_, step),
            )

    def step(self, round_: int, step: str) -> dict[str, Any] | None:
        """What came of a step, None if it is not done."""
        rows = self.query(
            "SELECT detail FROM steps WHERE round = ? AND step = ? AND state = 'done'", round_, step
        )
        return json.loads(rows[0][0]) if rows else None

    def record(self, table: str, **values: Any) -> None:
        """Insert or replace one row."""
        with self.transaction() as database:
            database.execute(
                f"INSERT OR REPLACE INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
                tuple(json.dumps(v) if isinstance(v, dict | list) else v for v in values.values()),
            )

    def decide(self, round_: int, decisions: Iterable[tuple[str, str, str, str, float | None]]) -> None:
        """Record (candidate, key, verdict, reason, disagreement) of a round, replacing what it had."""
        with self.transaction() as database:
            database.execute("DELETE FROM decisions WHERE round = ?", (round_,))
            database.executemany(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?)",
                [(round_, *decision) for decision in decisions],
            )

    # ---- rebuilding

    @classmethod
    def rebuild(cls, folder: str | Path) -> Store:
        """Put the database aside and make a new one from the label files.

        The steps of the loop are then walked through again; what their folders hold already is not computed
        again.
        """
        folder = Path(folder)
        lock = FolderLock(folder / "driver.lock")
        lock.require("another driver works on this project", "end it with `nnpkit active stop`")
        try:
            for path in (folder / DATABASE, folder / f"{DATABASE}-wal", folder / f"{DATABASE}-shm"):
                if path.exists():
                    path.rename(path.with_name(f"{path.name}.damaged-{int(time.time())}"))
            store = cls(folder, create=True)
        finally:
            lock.release()
        for settings in store.labels.all_settings():
            done = list(store.labels.keys(settings))
            labelled = [(store.labels.read(settings, key), {"kind": "label file"}) for key in done]
            store.add_structures([(s, origin) for s, origin in labelled if s is not None], None)
            store.harvest(settings, [*done, *store.labels.failed_keys(settings)], None)
        return store


def _frame(structure: Structure) -> dict[str, Any]:
    """A structure without its labels, JSON-able, every digit kept."""
    return {
        "symbols": structure.symbols, "positions": structure.positions.tolist(), "cell": structure.cell.tolist(),
        "pbc": structure.pbc.tolist(), "total_charge": structure.total_charge, "multiplicity": structure.multiplicity,
    }  # fmt: skip


def _numbers(label: Structure) -> tuple[float | None, float | None, float | None, int]:
    """Energy, largest force, seconds and attempts of a label."""
    force = None if label.forces is None else float((label.forces**2).sum(axis=1).max() ** 0.5)
    seconds = label.info.get("label_seconds")
    return (
        label.energy,
        force,
        None if seconds is None else float(seconds),
        int(label.info.get("label_attempts", 1)),
    )
