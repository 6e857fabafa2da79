"""The folder of RuNNer and n2p2 as a deploy target."""

from __future__ import annotations

from pathlib import Path

from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.targets.contract import DeployTarget, TargetOptions
from nnpkit.deploy.targets.runner import write_runner_potential
from nnpkit.errors import InputError

__all__ = ["RUNNER_FOLDER"]


class RunnerFolder(DeployTarget):
    """``input.nn``, ``scaling.data`` and ``weights.NNN.data``."""

    destination = "a folder"

    def takes(self, destination: Path, named: bool) -> bool:
        """A name without suffix."""
        return not destination.suffix

    def write(self, model: LoadedModel, destination: Path, options: TargetOptions) -> list[str]:
        """Write the folder in the units of the options, by default bohr-hartree.

        Raises
        ------
        InputError
            For a correction whose baseline is not in the file, and for all that `write_runner_potential` refuses.
        """
        if (missing := model.missing_baseline) is not None:
            raise InputError(
                f"the potential is a correction to {missing['name']}", where=model.where,
                expected="a whole potential",
            )  # fmt: skip
        units = options.units or "bohr-hartree"
        write_runner_potential(model.atomic_model(), destination, units, options.without_wall)
        return [f"units {units}"]


RUNNER_FOLDER = RunnerFolder()
