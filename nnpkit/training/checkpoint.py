"""Checkpoints: everything a run needs to go on exactly as if it had not stopped.

A checkpoint is a folder ``checkpoints/epoch-000012`` with ``state.safetensors`` (tensors, bit by bit), a file
``update.block-00000.safetensors`` for each block of a covariance, and ``state.json`` (everything else, and the sizes
and checksums of the other files); one written in the middle of an epoch is called ``epoch-000012-step-000345``. The
folder gets its name when it is complete.

Of several processes each writes the blocks that it keeps, and reads those that it is going to keep.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnpkit._version import __version__
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model
from nnpkit.files import atomic_folder
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.parallel import ALONE, Ranks
from nnpkit.training.checkpoint_files import (
    STATE,
    damaged,
    flush_to_disk,
    on_all_ranks,
    read_tensors,
    write_pieces,
    write_tensors,
)

__all__ = [
    "CHECKPOINTS", "Checkpoint", "checkpoint_of_epoch", "first_difference", "is_checkpoint", "latest_checkpoint",
    "model_from", "prune_checkpoints", "read_checkpoint", "remove_unfinished", "write_checkpoint",
]  # fmt: skip

CHECKPOINTS = "checkpoints"
"""Name of the folder of checkpoints in the folder of a run."""
_FORMAT, _FORMAT_VERSION = "nnpkit-checkpoint", 2
_NAME = re.compile(r"epoch-(\d{6,})(?:-step-(\d{6,}))?$")


@dataclass
class Checkpoint:
    """Content of a checkpoint.

    Attributes
    ----------
    tensors : dict
        ``{"model": {...}, "best": {...}, "update": {...}, "schedule": {...}}``, each a flat mapping of tensors; those
        of pieces (`nnpkit.optim.late_tensors`) are read when they are asked for.
    state : dict
        JSON-able: ``epoch`` (epochs done), ``step`` (updates done in the next one), ``spec`` of the model,
        ``config``, ``progress`` of the trainer, ...
    """

    tensors: dict[str, Mapping[str, Tensor]]
    state: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the folder."""
        step = self.state.get("step", 0)
        return f"epoch-{self.state['epoch']:06d}" + (f"-step-{step:06d}" if step else "")


def write_checkpoint(folder: str | Path, checkpoint: Checkpoint, ranks: Ranks = ALONE) -> Path:
    """Write `checkpoint` below `folder` and return its path.

    All `ranks` call this together; each writes its pieces, the first one all else.

    Raises
    ------
    InputError
        On all ranks, if the disk of any is full or cannot be written; nothing of the new checkpoint remains then, and
        the earlier ones are untouched.
    """
    path = Path(folder) / checkpoint.name
    with ExitStack() as stack:  # it gives the folder its name, or removes it

        def together(do: Callable[[], Any]) -> list[Any]:
            return on_all_ranks(do, path, ranks)

        new = Path(together(lambda: str(stack.enter_context(atomic_folder(path))) if ranks.leads else "")[0])
        files = {
            name: entry
            for own in together(lambda: write_pieces(new, checkpoint.tensors))
            for name, entry in own
        }
        together(lambda: _write_state(new, checkpoint, files) if ranks.leads else None)
        together(stack.close)
    return path


def _write_state(folder: Path, checkpoint: Checkpoint, files: Mapping[str, Any]) -> None:
    """Write all that is no piece."""
    flat = {
        f"{group}.{name}": tensors[name]
        for group, tensors in checkpoint.tensors.items()
        for name in tensors
        if "/" not in name
    }
    versions = {"nnpkit": __version__, "torch": str(torch.__version__)}
    files = {STATE: write_tensors(folder / STATE, flat), **files}
    state = {  # what is said here is of this checkpoint, not of one that was read and is written again
        **checkpoint.state, "format": _FORMAT, "format_version": _FORMAT_VERSION, "versions": versions, "files": files,
    }  # fmt: skip
    (folder / "state.json").write_bytes(json.dumps(state, indent=1).encode())
    mode = (folder / "state.json").stat().st_mode
    for file in folder.iterdir():
        file.chmod(mode)  # safetensors writes for the owner alone
    flush_to_disk(folder / "state.json")


def remove_unfinished(folder: str | Path) -> None:
    """Remove what writers that were killed have left below `folder`, where nobody else writes."""
    for path in Path(folder).glob(".epoch-*.part"):
        shutil.rmtree(path, ignore_errors=True)


def is_checkpoint(path: str | Path) -> bool:
    """Whether `path` is the folder of a checkpoint."""
    return (Path(path) / "state.json").is_file() and (Path(path) / STATE).is_file()


def _listed(folder: Path) -> list[Path]:
    """Complete checkpoints below `folder`, oldest first."""
    found = [(match, path) for path in folder.glob("epoch-*") if (match := _NAME.search(path.name))]
    found.sort(key=lambda item: (int(item[0][1]), int(item[0][2] or 0)))
    return [path for _, path in found if is_checkpoint(path)]


def latest_checkpoint(run: str | Path) -> Path | None:
    """Last checkpoint of the run in folder `run`, None if it has none."""
    listed = _listed(Path(run) / CHECKPOINTS)
    return listed[-1] if listed else None


def checkpoint_of_epoch(folder: str | Path, epoch: int | None) -> Path | None:
    """The checkpoint below `folder` at the end of `epoch`, None if it has none."""
    path = Path(folder) / f"epoch-{epoch or 0:06d}"
    return path if epoch is not None and is_checkpoint(path) else None


def prune_checkpoints(folder: str | Path, keep: int, best_epoch: int | None = None) -> None:
    """Remove all checkpoints below `folder` but the last `keep` and the one of the best epoch."""
    best = f"epoch-{best_epoch:06d}" if best_epoch is not None else None
    for path in _listed(Path(folder))[:-keep]:
        if path.name != best:
            shutil.rmtree(path, ignore_errors=True)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Checkpoint in the folder `path`.

    Raises
    ------
    InputError
        If it is none, is damaged, or is of a format this version does not know.
    """
    path = Path(path)
    if not is_checkpoint(path):
        raise InputError(
            "is no checkpoint", where=str(path), expected="a folder such as run/checkpoints/epoch-000010"
        )
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        known = (
            state["format"] == _FORMAT and isinstance(state["epoch"], int) and isinstance(state["spec"], dict)
        )
        version = state["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from None
    if not known:
        raise damaged(path, "state.json is not of a checkpoint")
    if version != _FORMAT_VERSION:
        raise InputError(
            f"checkpoint of format version {version}", where=str(path), expected=f"version {_FORMAT_VERSION}",
            hint="use the nnpkit that wrote it",
        )  # fmt: skip
    return Checkpoint(read_tensors(path, state.get("files")), state)


def model_from(checkpoint: Checkpoint, where: str = "checkpoint", *, best: bool = False) -> AtomicModel:
    """Model of a checkpoint: as it was then or, with `best`, as it was at the best epoch until then.

    Raises
    ------
    InputError
        If the tensors do not belong to the model that the checkpoint describes.
    """
    tensors = checkpoint.tensors["best"] if best else {}
    tensors = tensors or checkpoint.tensors["model"]
    try:
        model = build_model(checkpoint.state["spec"])
        model.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the checkpoint's tensors do not fit its model ({reason})", where=where) from None
    return model


def first_difference(a: Any, b: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """Dotted key of the first place where two nested JSON-able values differ, with both values there."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in dict.fromkeys([*a, *b]):
            here = f"{key}.{name}" if key else str(name)
            if name not in a or name not in b:
                return here, a.get(name), b.get(name)
            if difference := first_difference(a[name], b[name], here):
                return difference
        return None
    return None if a == b else (key, a, b)
