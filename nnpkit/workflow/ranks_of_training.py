"""What several processes that train together must have in common, and what they cannot do together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nnpkit._version import __version__
from nnpkit.config.schema import Config
from nnpkit.errors import InputError
from nnpkit.parallel import Ranks
from nnpkit.training.registered import OPTIMIZERS

__all__ = ["require_parallel", "require_same"]


def require_parallel(config: Config, size: int) -> None:
    """Refuse a training whose work cannot be divided among `size` processes.

    Raises
    ------
    InputError
        Naming the setting.
    """
    kind = config.training.optimizer.kind
    for cannot, where, hint in (
        (
            not OPTIMIZERS.get(kind).parallel,
            f"training.optimizer.kind: {kind}",
            "use kind: ekf or adam, or one process",
        ),
        (config.committee is not None, "committee", "a committee shares a node by itself: start one process"),
        (config.start is not None, "start", "start one process"),
    ):
        if cannot:
            raise InputError(f"{size} processes cannot share this training", where=where, hint=hint)


def require_same(identity: Mapping[str, Any], ranks: Ranks) -> None:
    """Refuse processes that see other data, settings or versions than the first one.

    Raises
    ------
    InputError
        Naming what differs, and where.
    """
    seen = {"version of nnpkit": __version__, "data": identity["data"], "settings": identity["config"]}
    found = ranks.collect({name: _hash(value) for name, value in seen.items()})
    for rank, own in enumerate(found):
        for name in seen:
            if own[name] != found[0][name]:
                raise InputError(
                    f"process {rank} of {ranks.size} has other {name} than process 0", where="nnpkit train",
                    expected="the same files, settings and version on all nodes",
                )  # fmt: skip


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
