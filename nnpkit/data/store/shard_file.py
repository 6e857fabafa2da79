"""A shard: some thousand frames in one file of the safetensors format, mapped into memory and not read.

The layout is safetensors' own (eight bytes with the length of a JSON header, the header, the arrays one behind the
other), so that other programs can open it; the package itself parses the header, because a view into a map costs
microseconds where a library that copies slices costs milliseconds. Columns, F frames with A atoms together:

==============  ===========================================================================================
``offsets``     (F + 1,) int64: where the atoms of each frame begin
``numbers``     (A,) uint8 atomic numbers
``positions``   (A, 3) Å; ``forces`` (A, 3) eV/Å: float64, or float32 if the store was built so
``cell``        (F, 3, 3) Å; ``pbc`` (F, 3) uint8
``energy``      (F,) eV; ``stress`` (F, 3, 3) eV/Å³; ``charges`` (A,) e; ``dipole`` (F, 3) e Å;
                ``total_charge``, ``multiplicity`` (F,)
``has``         (F,) uint8: which of the labels a frame has, a bit each in the order of `FRAME_LABELS`
``text``        uint8, with ``text_offsets`` (F + 1,) int64: JSON of name and extras of each frame
==============  ===========================================================================================

Beside them stand the columns of `nnpkit.data.store.frame_facts`. A column of a label that no frame has is absent.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["FRAME_LABELS", "Shard", "frame_text", "pack", "shard_bytes"]

FRAME_LABELS = ("energy", "forces", "stress", "charges", "dipole", "total_charge", "multiplicity")
"""Labels in the order of the bits of ``has``."""

_OF_ATOMS = {"forces": (3,), "charges": ()}
_OF_FRAMES: dict[str, tuple[int, ...]] = {"stress": (3, 3), "dipole": (3,)}  # the others are one number
_TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U8": "|u1"}


def pack(structures: Sequence[Structure], dtype: str) -> dict[str, np.ndarray]:
    """Columns of `structures`; positions and forces as `dtype`, everything else exactly."""
    from ase.data import atomic_numbers

    sizes = [structure.n_atoms for structure in structures]
    texts = [frame_text(structure) for structure in structures]
    columns: dict[str, np.ndarray] = {
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype("<i8"),
        "numbers": np.array([atomic_numbers[e] for s in structures for e in s.symbols], dtype=np.uint8),
        "positions": np.concatenate([s.positions for s in structures]).astype(dtype),
        "cell": np.array([s.cell for s in structures]),
        "pbc": np.array([s.pbc for s in structures], dtype=np.uint8),
        "has": np.zeros(len(structures), dtype=np.uint8),
        "text": np.frombuffer(b"".join(texts), dtype=np.uint8),
        "text_offsets": np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype("<i8"),
    }
    for bit, label in enumerate(FRAME_LABELS):
        values = [getattr(structure, label) for structure in structures]
        present = np.array([value is not None for value in values])
        if not present.any():
            continue
        columns["has"] |= (present << bit).astype(np.uint8)
        shapes = [(n, *_OF_ATOMS[label]) if label in _OF_ATOMS else _OF_FRAMES.get(label, ()) for n in sizes]
        filled = [
            np.zeros(shape) if v is None else np.asarray(v) for v, shape in zip(values, shapes, strict=True)
        ]
        column = np.concatenate(filled) if label in _OF_ATOMS else np.array(filled, dtype=np.float64)
        columns[label] = column.astype(dtype) if label == "forces" else column
    return columns


def frame_text(structure: Structure) -> bytes:
    """Name and those extras of a frame that JSON and arrays of numbers can say."""
    info: dict[str, Any] = {}
    lists: dict[str, Any] = {}
    for key, value in structure.info.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, np.ndarray):
            if plain.dtype.kind in "biuf":
                lists[str(key)] = plain.tolist()
        elif _is_plain(plain):
            info[str(key)] = plain
    return json.dumps({"name": structure.name, "info": info, "lists": lists}).encode()


def _is_plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def shard_bytes(columns: Mapping[str, np.ndarray]) -> bytes:
    """The content of a shard's file."""
    import safetensors.numpy

    return bytes(
        safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in columns.items()})
    )


class Shard:
    """The frames of one file, each made when it is asked for.

    Parameters
    ----------
    path : path
        The file; its checksum is the caller's business.

    Raises
    ------
    InputError
        If it is not a file of this layout.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # an array of the plain kind is sliced in a fifth of the time of a memmap
            bytes_ = np.memmap(path, dtype=np.uint8, mode="r").view(np.ndarray)
            (length,) = struct.unpack("<Q", bytes(bytes_[:8]))
            header = json.loads(bytes(bytes_[8 : 8 + length]))
            self.columns = {
                name: _column(bytes_, 8 + length, entry)
                for name, entry in header.items()
                if name != "__metadata__"
            }
            self.offsets, self.text_offsets = self.columns["offsets"], self.columns["text_offsets"]
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise InputError(
                f"not a shard of a data store: {' '.join(str(error).split())[:80]}", where=str(path)
            ) from None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _text(self, index: int) -> dict[str, Any]:
        first, last = self.text_offsets[index : index + 2]
        return dict(json.loads(self.columns["text"][first:last].tobytes()))

    def name(self, index: int) -> str:
        """Name of a frame."""
        return str(self._text(index)["name"])

    def structure(self, index: int) -> Structure:
        """One frame, copied out of the map."""
        from ase.data import chemical_symbols

        columns, text = self.columns, self._text(index)
        first, last = self.offsets[index : index + 2]
        labels: dict[str, Any] = {}
        for bit, label in enumerate(FRAME_LABELS):
            if columns["has"][index] >> bit & 1:
                labels[label] = columns[label][first:last] if label in _OF_ATOMS else columns[label][index]
        info = text["info"] | {key: np.array(value) for key, value in text["lists"].items()}
        return Structure(
            symbols=[chemical_symbols[number] for number in columns["numbers"][first:last].tolist()],
            positions=columns["positions"][first:last], cell=columns["cell"][index],
            pbc=columns["pbc"][index].astype(bool), name=text["name"], info=info, **labels,
        )  # fmt: skip


def _column(bytes_: np.ndarray, begin: int, entry: Mapping[str, Any]) -> np.ndarray:
    """View of one array of the file."""
    first, last = entry["data_offsets"]
    if begin + last > len(bytes_):
        raise ValueError("the file is cut off")
    return bytes_[begin + first : begin + last].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
