"""A data store among the formats that every command reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnpkit.data.formats.contract import DataFormat, Piece, ReadOptions
from nnpkit.data.store.stored_frames import DataStore, is_store
from nnpkit.data.structure import Structure

__all__ = ["FORMAT"]


def _pieces(path: Path) -> Iterator[Piece]:
    first = 0
    for shard in DataStore(path).shards:
        yield Piece(first, stop=first + shard["frames"])
        first += shard["frames"]


def _read_piece(path: Path, piece: Piece, options: ReadOptions) -> list[Structure]:
    return list(DataStore(path)[piece.first : piece.stop])


FORMAT = DataFormat(
    "data store of `nnpkit data build`",
    read=lambda path, options: list(DataStore(path)),
    recognises=is_store,
    order=5,
    converts=True,
    is_folder=True,
    is_file=False,
    pieces=_pieces,
    read_piece=_read_piece,
)
