"""Deploy targets by name: ours, and those of other packages under the entry points ``nnpkit.targets``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nnpkit.errors import InputError
from nnpkit.registry import Registry

if TYPE_CHECKING:
    from nnpkit.deploy.targets.contract import DeployTarget

__all__ = ["TARGETS", "target_for"]

TARGETS: Registry[DeployTarget] = Registry(
    "target",
    "nnpkit.targets",
    {
        "model": "nnpkit.deploy.targets.model_file:MODEL_FILE",
        "runner": "nnpkit.deploy.targets.runner_folder:RUNNER_FOLDER",
        "metatomic": "nnpkit.deploy.targets.metatomic_file:METATOMIC_FILE",
        "gromacs": "nnpkit.deploy.targets.gromacs_file:GROMACS_FILE",
        "nep": "nnpkit.deploy.targets.nep:NEP_FILE",
    },
)


def target_for(name: str | None, destination: Path, where: str) -> str:
    """The target that `name` asks for, or that the name of `destination` stands for.

    Raises
    ------
    InputError
        If there is none, or it cannot be written there.
    """
    found = [n for n in ([name] if name else TARGETS) if n in TARGETS]
    found = [n for n in found if TARGETS.get(n).takes(destination, named=name is not None)]
    if not found:
        as_what = f" as {name}" if name else ""
        raise InputError(
            f"a potential cannot be written{as_what} to {destination}", where=where,
            expected=" or ".join(f"{TARGETS.get(n).destination} ({n})" for n in TARGETS),
        )  # fmt: skip
    return found[0]
