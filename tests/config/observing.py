"""What a training does, made comparable: weights, covariance, learning curve, files, in the same words every time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
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
    if isinstance(value, dict):
        return sorted((str(k), _plain(v)) for k, v in value.items() if k not in _VOLATILE)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


@contextmanager
def quick() -> Iterator[None]:
    """Leave out what takes long and no setting changes: TorchScript, TensorBoard."""
    with pytest.MonkeyPatch.context() as patch:

        def export(model: Any, path: Path, metadata: Any, frame: Any) -> None:
            path.write_text(digest([model.state_dict(), model.spec, metadata, frame]))

        class Nothing:
            def __init__(self, folder: Path, first_epoch: int) -> None:
                self.add, self.close = (lambda *_: None), (lambda: None)

        patch.setattr(run_steps, "export_model", export)
        patch.setattr(trainer, "TensorBoard", Nothing)
        yield


def observe_training(file: Path, overrides: Sequence[str], folder: Path) -> str:
    """Digest of all that a training leaves in `folder` and prints, without times and the names of its settings."""
    threads, console = torch.get_num_threads(), Console(record=True, width=200, quiet=True)
    asked: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            report, "report_of_run", lambda run, output, options: asked.append(options) or ("", None)
        )
        patch.setattr(report, "load", lambda path: f"potential {path}")
        given = any(o.startswith("output=") for o in overrides)
        config = load_config(file, [*overrides, *([] if given else [f"output={folder}"])])
        patch.setattr(torch, "set_num_threads", lambda n: asked.append(("threads", n)))
        run.run_training(config, console=console, overwrite=True)
    assert torch.get_num_threads() == threads
    return digest(
        [_content(Path(config.output)), [_plain(vars(a) if hasattr(a, "__dict__") else a) for a in asked]]
    )


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


def observe_committee(file: Path, overrides: Sequence[str], folder: Path) -> str:
    """Digest of what each process of a committee is given: data, seed, model and memory."""
    config = load_config(file, [*overrides, f"output={folder}"])

    def train(self: Any, base: Any, shared: Any, budget: int) -> None:
        import os

        self.folder.path.mkdir(parents=True, exist_ok=True)
        beginning = self.begin(base)
        content = [self.number, self.indices, self.config.seed, budget, beginning.model.state_dict()]
        (self.folder.path / "given").write_text(digest(content))
        os._exit(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(committee._Member, "train", train)
        patch.setattr(committee, "load", lambda path: None)
        patch.setattr(committee, "_finish", lambda *_: {"ended": "epochs"})
        run.run_training(config, console=Console(quiet=True), overwrite=True)
    return digest({p.parent.name: p.read_text() for p in sorted(folder.rglob("given"))})
