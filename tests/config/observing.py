"""What a training does, made comparable: data, weights after every update, files, in the same words every time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.training import trainer
from nnpkit.training.checkpoint import read_checkpoint
from nnpkit.workflow import committee_training as committee
from nnpkit.workflow import run_report as report
from nnpkit.workflow import run_steps
from nnpkit.workflow import training_run as run

__all__ = ["digest", "observe_committee", "observe_training", "quick"]

_VOLATILE = {"seconds", "versions", "memory_budget", "time"}


def digest(value: Any) -> str:
    """Hash of nested values; numbers bit by bit."""
    return hashlib.sha256(repr(_plain(value)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.detach().cpu().numpy().tobytes())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({name: getattr(value, name) for name in value.__dataclass_fields__})
    if isinstance(value, Mapping):
        return sorted((str(k), _plain(v)) for k, v in value.items() if k not in _VOLATILE)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


class _Silent(Console):
    """A console that does not even lay out what nobody reads."""

    def print(self, *_: Any, **__: Any) -> None:
        """Print nothing."""


class _DiffersError(Exception):
    """A training has done something else than the one that it is compared with."""


class _Trail(list[str]):
    """Digests of what a training did, one after the other; ends it where it leaves the trail of another one."""

    def __init__(self, like: Sequence[str] | None) -> None:
        super().__init__()
        self.like = like

    def add(self, value: Any) -> None:
        """Note `value`."""
        self.append(digest(value))
        if self.like is not None and self.like[len(self) - 1 : len(self)] != self[-1:]:
            raise _DiffersError


def _note(patch: pytest.MonkeyPatch, trail: _Trail, owner: Any, name: str, what: Callable[..., Any]) -> None:
    """Put on the trail `what` of the result and the arguments of every call of the function `name` of `owner`."""
    function = getattr(owner, name)

    def noting(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        trail.add(what(result, *arguments))
        return result

    patch.setattr(owner, name, noting)


@contextmanager
def quick() -> Iterator[None]:
    """Leave out what takes long and no setting changes: TorchScript, TensorBoard, waiting for the disk, tables."""
    with pytest.MonkeyPatch.context() as patch:

        def export(model: Any, path: Path, metadata: Any, frame: Any) -> None:
            path.write_text(digest([model.state_dict(), model.spec, metadata, frame]))

        class Nothing:
            def __init__(self, folder: Path, first_epoch: int, writes: bool) -> None:
                self.add, self.close = (lambda *_: None), (lambda: None)

        patch.setattr(run_steps, "export_model", export)
        patch.setattr(trainer, "TensorBoard", Nothing)
        patch.setattr("os.fsync", lambda _: None)
        for module in (run, committee):
            patch.setattr(module, "write_config", lambda config, path: None)
        yield


def observe_training(
    file: Path, overrides: Sequence[str], folder: Path, like: Sequence[str] | None = None
) -> list[str]:
    """Digests of a training step by step: its data, first weights, weights after every update, all that it leaves.

    What it leaves is compared without times and the names of its settings. A training that is compared with another
    one, `like`, ends at the first step in which they differ: an effect is an effect.
    """
    threads, trail = torch.get_num_threads(), _Trail(like)
    asked: list[Any] = []
    given = any(o.startswith("output=") for o in overrides)
    config = load_config(file, [*overrides, *([] if given else [f"output={folder}"])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            report, "report_of_run", lambda run, output, options: asked.append(options) or ("", None)
        )
        patch.setattr(report, "load", lambda path: f"potential {path}")
        patch.setattr(torch, "set_num_threads", lambda n: asked.append(("threads", n)))
        _note(patch, trail, run, "load_data", lambda data, *_: [data.splits, data.additional])
        _note(patch, trail, run, "make_model", lambda made, *_: made[0].state_dict())
        _note(patch, trail, trainer.Trainer, "_update", lambda _, loop, *__: loop.model.state_dict())
        try:
            run.run_training(config, console=_Silent(), overwrite=True)
            rest = [_plain(vars(a) if hasattr(a, "__dict__") else a) for a in asked]
            trail.add([_content(Path(config.output)), rest])
        except _DiffersError:
            return trail
    assert torch.get_num_threads() == threads
    return trail


def _content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"name": folder.name}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[name] = None
        elif path.name == "state.safetensors":
            checkpoint = read_checkpoint(path.parent)
            found[name] = [checkpoint.tensors, checkpoint.state["progress"], checkpoint.state["spec"]]
        elif path.suffix in (".json", ".jsonl") and path.name != "state.json":
            found[name] = (
                [json.loads(line) for line in [path.read_text()]]
                if path.suffix == ".json"
                else [json.loads(line) for line in path.read_text().splitlines()]
            )
        elif path.name == "lcurve.txt":
            found[name] = [
                re.sub(r"^(\s*\d+\s+\d+)\s+\S+", r"\1", line) for line in path.read_text().splitlines()
            ]
        elif path.name not in ("config.yaml", "state.json", "train.log", ".lock"):
            found[name] = path.read_bytes()
    if isinstance(data := found.get("data.json"), list):
        data[0].get("memory", {}).pop("covariance", None)
    return found


def observe_committee(
    file: Path, overrides: Sequence[str], folder: Path, like: Sequence[str] | None = None
) -> list[str]:
    """Digest of what each process of a committee is given: data, seed, model and memory."""
    config = load_config(file, [*overrides, f"output={folder}"])

    def train(self: Any, base: Any, shared: Any, budget: int) -> None:
        import os

        self.folder.path.mkdir(parents=True, exist_ok=True)
        beginning = self.begin(base)
        content = [self.number, self.indices, self.config.seed, budget, beginning.model.state_dict()]
        (self.folder.path / "given").write_text(digest(content))
        (self.folder.path / "summary.json").write_text('{"ended": "epochs"}')
        os._exit(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(committee._Member, "train", train)
        patch.setattr(committee, "load", lambda path: None)
        patch.setattr(committee, "_finish", lambda *_: {"ended": "epochs"})
        run.run_training(config, console=_Silent(), overwrite=True)
    return [digest({p.parent.name: p.read_text() for p in sorted(folder.rglob("given"))})]
