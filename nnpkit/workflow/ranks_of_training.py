"""What several processes that train together must have in common, and what they cannot do together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnpkit._version import __version__
from nnpkit.config.schema import Config
from nnpkit.errors import InputError
from nnpkit.parallel import Ranks
from nnpkit.training.registered import OPTIMIZERS
from nnpkit.training.run_folder import RunFolder

__all__ = ["require_one_folder", "require_parallel", "require_same"]


def require_parallel(config: Config, size: int) -> None:
    """Refuse a training whose work cannot be divided among `size` processes, if they are several.

    Raises
    ------
    InputError
        Naming the setting.
    """
    if size == 1:
        return
    kind = config.training.optimizer.kind
    for cannot, where, hint in (
        (
            not OPTIMIZERS.get(kind).parallel,
            f"training.optimizer.kind: {kind}",
            "use kind: ekf, adam or lbfgs, or one process",
        ),
        (
            config.committee is not None and config.committee.trainings < size,
            "committee",
            "start no more processes than members are trained",
        ),
        (config.start is not None, "start", "start one process"),
    ):
        if cannot:
            raise InputError(f"{size} processes cannot share this training", where=where, hint=hint)


def require_same(identity: Mapping[str, Any], last: Path | None, ranks: Ranks) -> None:
    """Refuse processes that see other data, settings, versions or another last checkpoint than the first one.

    Raises
    ------
    InputError
        Naming what differs, and where.
    """
    seen = {
        "version of nnpkit": __version__,
        "data": identity["data"],
        "settings": identity["config"],
        "checkpoints": None if last is None else last.name,
    }
    found = ranks.collect({name: _hash(value) for name, value in seen.items()})
    for rank, own in enumerate(found):
        for name in seen:
            if own[name] != found[0][name]:
                raise InputError(
                    f"process {rank} of {ranks.size} has other {name} than process 0", where="nnpkit train",
                    expected="the same files, settings and version on all nodes",
                )  # fmt: skip


def require_one_folder(folder: RunFolder, ranks: Ranks) -> None:
    """Refuse processes that do not see the folder of the run, in which each writes its part of the checkpoints.

    Raises
    ------
    InputError
        Naming the first process that does not.
    """
    ranks.barrier()  # the first process makes it
    found = ranks.collect(folder.path.is_dir())
    if not all(found):
        raise InputError(
            f"process {found.index(False)} of {ranks.size} does not see the folder of the run",
            where=str(folder.path), expected="a file system that all nodes share",
        )  # fmt: skip


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
