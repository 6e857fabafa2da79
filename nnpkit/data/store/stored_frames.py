"""A store on disk as a sequence of structures: each is made when it is asked for, and none is kept."""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from nnpkit.data.store.shard_file import Shard
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.files import sha256_of_file

__all__ = [
    "INDEX",
    "UNITS",
    "VERSION",
    "DataStore",
    "FramesOf",
    "is_store",
    "joined_frames",
    "sealed_index",
    "select_frames",
    "stores_of",
]  # fmt: skip

INDEX = "store.json"
"""File of a store that says what is in it; written last."""
VERSION = 1
"""Of the layout of stores that are written; see `DataStore`."""
UNITS = {"length": "Å", "energy": "eV", "force": "eV/Å", "stress": "eV/Å³", "charge": "e"}
"""Units of all numbers of a store."""

_NAME = "nnpkit data store"
_OPEN_SHARDS = 8  # maps of this many are held; what a process has mapped counts as its memory


def is_store(path: str | Path) -> bool:
    """Whether a folder is a store, whatever its version."""
    return (Path(path) / INDEX).is_file()


def sealed_index(index: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``store.json`` with the checksum of all its other entries."""
    plain = {**index, "format": _NAME, "version": VERSION, "units": UNITS}
    return {**plain, "sha256": _checksum(plain)}


def _checksum(index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


class DataStore(Sequence[Structure]):
    """All frames of a store.

    A shard is checked against its checksum when a process opens it for the first time, and against its size whenever it
    is opened.

    Parameters
    ----------
    path : path
        The folder.

    Raises
    ------
    InputError
        If it is no store, of another version, or its index is damaged; when a frame is asked for, if its shard is.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.manifest = self._read_manifest()
        self.shards: list[dict[str, Any]] = self.manifest["shards"]
        self._starts = [0, *accumulate(shard["frames"] for shard in self.shards)]
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._checked: set[int] = set()
        self._lock = threading.Lock()

    def _read_manifest(self) -> dict[str, Any]:
        where = str(self.path / INDEX)
        try:
            index = json.loads((self.path / INDEX).read_text(encoding="utf-8"))
            name, version, given = index.pop("format"), int(index.pop("version")), index.pop("sha256")
        except OSError as error:
            raise InputError(
                f"not a data store: {error.strerror}", where=where, hint="make one with `nnpkit data build`"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                "the index of the data store is damaged", where=where, hint="build it again"
            ) from None
        if name != _NAME or version != VERSION:
            raise InputError(
                f"a store of version {version}", where=where, expected=f"{_NAME}, version {VERSION}",
                hint="build it again from its sources with this version",
            )  # fmt: skip
        if _checksum({"format": name, "version": version, **index}) != given:
            raise InputError("the index of the data store was changed", where=where, hint="build it again")
        return dict(index)

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> FramesOf: ...
    def __getitem__(self, index: int | slice) -> Structure | FramesOf:
        """One frame, or those of a slice, which are made when they are asked for."""
        if isinstance(index, slice):
            return FramesOf(self, range(len(self))[index])
        at = range(len(self))[index]
        number = bisect_right(self._starts, at) - 1
        with self._lock:  # a thread may prepare structures ahead of others
            return self._shard(number).structure(at - self._starts[number])

    def _shard(self, number: int) -> Shard:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        self._require_sound(number)
        shard = Shard(self.path / self.shards[number]["file"])
        self._open[number] = shard
        if len(self._open) > _OPEN_SHARDS:
            self._open.popitem(last=False)
        return shard

    def _require_sound(self, number: int) -> None:
        """Refuse a shard that is not the one that was written."""
        entry = self.shards[number]
        path = self.path / entry["file"]
        try:
            size = path.stat().st_size
            sound = size == entry["bytes"] and (
                number in self._checked or sha256_of_file(path) == entry["sha256"]
            )
        except OSError as error:
            raise InputError(
                f"a shard of the data store is missing: {error.strerror}", where=str(path)
            ) from None
        if not sound:
            what = (
                f"has {size} of {entry['bytes']} bytes" if size != entry["bytes"] else "has another checksum"
            )
            raise InputError(
                f"this shard of the data store is damaged: it {what}", where=str(path),
                hint="copy the store again, or build it again from its sources",
            )  # fmt: skip
        self._checked.add(number)

    def require_sound(self) -> None:
        """Check all shards against their checksums.

        Raises
        ------
        InputError
            Naming the first that is damaged.
        """
        for number in range(len(self.shards)):
            self._require_sound(number)

    def columns(self, name: str) -> np.ndarray:
        """A column with a row for each frame, of all shards, copied."""
        return np.concatenate([np.array(shard.columns[name]) for shard in self.each_shard()])

    def each_shard(self) -> Iterator[Shard]:
        """All shards, one after the other."""
        return (self._shard(number) for number in range(len(self.shards)))


class FramesOf(Sequence[Structure]):
    """Some elements of another sequence, which are made when they are asked for.

    Parameters
    ----------
    frames : sequence of Structure
        All there are.
    indices : sequence of int
        Which of them, in which order.
    """

    def __init__(self, frames: Sequence[Structure], indices: Iterable[int]) -> None:
        self.frames, self.indices = frames, np.fromiter(indices, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Structure: ...
    @overload
    def __getitem__(self, index: slice) -> FramesOf: ...
    def __getitem__(self, index: int | slice) -> Structure | FramesOf:
        """One frame, or those of a slice."""
        if isinstance(index, slice):
            return FramesOf(self.frames, self.indices[index])
        return self.frames[int(self.indices[index])]


class _Joined(Sequence[Structure]):
    """Sequences one behind the other."""

    def __init__(self, parts: Sequence[Sequence[Structure]]) -> None:
        self.parts, self._starts = list(parts), [0, *accumulate(map(len, parts))]

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return FramesOf(self, range(len(self))[index])
        at = range(len(self))[index]
        number = bisect_right(self._starts, at) - 1
        return self.parts[number][at - self._starts[number]]


def joined_frames(parts: Iterable[Sequence[Structure]]) -> Sequence[Structure]:
    """The frames of all `parts`: a list if they are lists, else made when they are asked for."""
    parts = [part for part in parts if len(part)]
    if all(isinstance(part, list) for part in parts):
        return [structure for part in parts for structure in part]
    return parts[0] if len(parts) == 1 else _Joined(parts)


def stores_of(frames: Sequence[Structure]) -> tuple[list[DataStore], bool]:
    """Stores that some of the frames are in, and whether all are."""
    if isinstance(frames, DataStore):
        return [frames], True
    if isinstance(frames, FramesOf):
        return stores_of(frames.frames)
    parts = [stores_of(part) for part in frames.parts] if isinstance(frames, _Joined) else [([], False)]
    stores = {id(store): store for found, _ in parts for store in found}
    return list(stores.values()), all(whole for _, whole in parts)


def select_frames(frames: Sequence[Structure], indices: Iterable[int]) -> Sequence[Structure]:
    """Frames with these indices: a list of a list, else made when they are asked for."""
    return [frames[i] for i in indices] if isinstance(frames, list) else FramesOf(frames, indices)
