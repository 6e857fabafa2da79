"""model.pt as a deploy target."""

from __future__ import annotations

from pathlib import Path

from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.targets.contract import DeployTarget, TargetOptions
from nnpkit.errors import InputError

__all__ = ["MODEL_FILE"]


class ModelFile(DeployTarget):
    """The file that LAMMPS and ASE load."""

    destination = "a file ending in .pt"

    def takes(self, destination: Path, named: bool) -> bool:
        """Any name if it was asked for."""
        return named or destination.suffix == ".pt"

    def write(self, model: LoadedModel, destination: Path, options: TargetOptions) -> list[str]:
        """Write the file; see `LoadedModel.save`.

        Raises
        ------
        InputError
            If it is to be written without its repulsion, which it can express.
        """
        if options.without_wall:
            raise InputError("--without-wall is for RuNNer's format", where=str(destination))
        model.save(destination)
        return []


MODEL_FILE = ModelFile()
