"""Files of tensors of a checkpoint: their writing by several processes, their checksums, their reading when needed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from nnpkit.errors import InputError
from nnpkit.files import sha256_of_file
from nnpkit.optim.late_tensors import LateTensors, joined
from nnpkit.parallel import Ranks

__all__ = [
    "STATE",
    "damaged",
    "flush_to_disk",
    "on_all_ranks",
    "read_tensors",
    "write_pieces",
    "write_tensors",
]

STATE = "state.safetensors"
"""The file of all that is no piece."""
_FILE = re.compile(r"[a-z]+(\.[\w-]+)?\.safetensors$")


def on_all_ranks(do: Callable[[], Any], path: Path, ranks: Ranks) -> list[Any]:
    """What this comes to on each rank; InputError on all if it fails on one."""
    done, reason = None, ""
    try:
        done = do()
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    found = ranks.collect([done, reason])
    for rank, (_, why) in enumerate(found):
        if why:
            who = f", process {rank}" if ranks.size > 1 else ""
            raise InputError(
                f"the checkpoint cannot be written ({why}{who})", where=str(path),
                hint="make room on the disk and continue from the last checkpoint with --resume",
            )  # fmt: skip
    return [value for value, _ in found]


def write_pieces(
    folder: Path, groups: Mapping[str, Mapping[str, Tensor]]
) -> list[tuple[str, dict[str, Any]]]:
    """Write the pieces that this process has, one at a time; names and entries of the files."""
    found = []
    for group, tensors in groups.items():
        pieces: dict[str, list[str]] = {}
        for name in tensors:
            piece, _, key = name.partition("/")
            if key:
                pieces.setdefault(piece, []).append(key)
        for piece, keys in pieces.items():
            file = folder / f"{group}.{piece}.safetensors"
            entry = write_tensors(file, {key: tensors[f"{piece}/{key}"] for key in keys})
            found.append((file.name, {**entry, "tensors": keys}))
    return found


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write a file; its size and checksum."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
    flush_to_disk(file)
    return {"bytes": file.stat().st_size, "sha256": sha256_of_file(file)}


def flush_to_disk(path: Path) -> None:
    """Have the content on the disk before the folder gets its name: only then a full disk shows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_tensors(path: Path, files: Any) -> dict[str, Mapping[str, Tensor]]:
    """Tensors by group, those of pieces to be read when they are asked for, from the `files` that ``state.json`` names.

    Raises
    ------
    InputError
        If a file is not the one that was written.
    """
    makers: dict[str, dict[str, Callable[[], Tensor]]] = {}
    try:
        for name, entry in files.items():
            _require_whole(path, name, entry["bytes"])
            group, _, piece = name.removesuffix(".safetensors").partition(".")
            read = _Reader(path / name, entry["sha256"])
            for key in entry.get("tensors", ()):
                makers.setdefault(group, {})[f"{piece}/{key}"] = read.of(key)
        sha256 = files[STATE]["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from None
    if sha256_of_file(path / STATE) != sha256:
        raise damaged(path, f"{STATE} is not the file that was written")
    flat = load_file(path / STATE)
    whole: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "update": {}, "schedule": {}}
    for name, tensor in flat.items():
        group, _, key = name.partition(".")
        whole.setdefault(group, {})[key] = tensor
    tensors: dict[str, Mapping[str, Tensor]] = dict(whole)
    for group, pieces in makers.items():
        tensors[group] = joined(whole.get(group, {}), LateTensors(pieces))
    return tensors


def _require_whole(path: Path, name: str, size: int) -> None:
    """Refuse a checkpoint one of whose files is missing or of another size, or is not in its folder."""
    if not _FILE.match(name):
        raise damaged(path, f"{name!r} is no name of a file of a checkpoint")
    if not (path / name).is_file():
        raise damaged(path, f"{name} is missing")
    if (path / name).stat().st_size != size:
        raise damaged(path, f"{name} is not the file that was written")


class _Reader:
    """Reads tensors of a file, whose checksum is compared the first time."""

    def __init__(self, file: Path, sha256: str) -> None:
        self.file, self.sha256, self.known = file, sha256, False

    def of(self, name: str) -> Callable[[], Tensor]:
        """What reads the tensor of this name."""
        return lambda: self._read(name)

    def _read(self, name: str) -> Tensor:
        try:
            if not self.known and sha256_of_file(self.file) != self.sha256:
                raise damaged(self.file.parent, f"{self.file.name} is not the file that was written")
            self.known = True
            with safe_open(self.file, framework="pt") as stream:
                return stream.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise damaged(self.file.parent, f"{self.file.name}: {error}") from None


def damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"the checkpoint is damaged ({reason})",
        where=str(path),
        hint="take the one before it: remove this folder",
    )
