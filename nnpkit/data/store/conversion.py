"""One piece of a source becomes one shard, in whichever process; beside it stands a record of what it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnpkit.data.formats.contract import Piece, ReadOptions
from nnpkit.data.formats.piecewise import read_piece
from nnpkit.data.formats.reading import has_label
from nnpkit.data.notes import collected_notes, note, refuse_open_choices
from nnpkit.data.statistics import DataSums
from nnpkit.data.store.frame_facts import facts_of
from nnpkit.data.store.shard_file import frame_text, pack, shard_bytes
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.files import atomic_write

__all__ = ["Job", "convert_piece", "read_record"]


@dataclass(frozen=True)
class Job:
    """What a process needs to make one shard.

    Attributes
    ----------
    source, format : str
        The file and its format.
    piece : Piece
        Which frames of it.
    position : int
        Number of the first of them among all of the file.
    frames : tuple
        start, stop and step of the frames that are wanted.
    units, keys, names
        As of `nnpkit.data.formats.contract.ReadOptions`.
    dtype : str
        Of positions and forces.
    target : str
        File of the shard; the record has the suffix ``.json``.
    """

    source: str
    format: str
    piece: Piece
    position: int
    frames: tuple[int, int | None, int]
    units: str | None
    keys: Mapping[str, str] | None
    names: Mapping[str, tuple[str, ...]] | None
    dtype: str
    target: str


def convert_piece(job: Job) -> dict[str, Any]:
    """Write the shard of a job and return its record.

    Raises
    ------
    InputError
        For frames that cannot be used, and if the files cannot be written.
    """
    seen: set[frozenset[str]] = set()
    options = ReadOptions(job.units, keys=job.keys, names=job.names, seen=seen)
    with collected_notes() as notes, refuse_open_choices():
        wanted = _wanted(job)
        structures = read_piece(Path(job.source), job.format, job.piece, options, wanted)
        _note_lost(structures)
    record: dict[str, Any] = {
        "frames": len(structures),
        "seen": sorted(map(sorted, seen)),
        "having": {label: sum(has_label(s, label) for s in structures) for label in job.keys or {}},
        "notes": {text: [len(frames), frames[0]] for text, frames in notes.items()},
    }
    target = Path(job.target)
    try:
        if structures:
            content = shard_bytes({**pack(structures, job.dtype), **facts_of(structures)})
            with atomic_write(target, "wb") as stream:
                stream.write(content)
            sums = DataSums()
            sums.add(structures)
            record |= {
                "file": target.name, "atoms": sum(s.n_atoms for s in structures), "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(), "sums": sums.to_json(),
            }  # fmt: skip
        with atomic_write(target.with_suffix(".json")) as stream:
            json.dump(record, stream)
    except OSError as error:
        raise InputError(
            f"cannot write: {error.strerror or error}", where=str(target),
            hint="make room and give the same command again: it goes on where it was",
        ) from None  # fmt: skip
    return record


def _wanted(job: Job) -> slice:
    """Which frames of the piece are wanted, for indices that count from its first one."""
    start, stop, step = job.frames
    begin = max(start, job.position)
    begin += (start - begin) % step
    return slice(begin - job.position, None if stop is None else max(0, stop - job.position), step)


def _note_lost(structures: Sequence[Structure]) -> None:
    """Say which extras a store does not keep."""
    for structure in structures:
        if not structure.info and not structure.arrays:
            continue
        text = json.loads(frame_text(structure))
        kept = text["info"].keys() | text["lists"].keys()
        for key in sorted({*map(str, structure.info), *structure.arrays} - kept):
            note(f"the extra {key} is not kept", structure.name)


def read_record(target: Path) -> dict[str, Any] | None:
    """The record of a shard that is finished; None if it has to be made."""
    try:
        record = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        if record["frames"] and target.stat().st_size != record["bytes"]:
            return None
        return dict(record)
    except (OSError, ValueError, KeyError):
        return None
