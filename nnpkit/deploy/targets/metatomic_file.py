"""metatomic's model file as a deploy target: what LAMMPS, PLUMED, i-PI, torch-sim and other engines of it read.

Reference: metatomic's documentation, "AtomisticModel" and "Standard quantities" (https://docs.metatensor.org/metatomic).
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ase.data import atomic_numbers

from nnpkit._version import __version__
from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.targets.contract import DeployTarget, TargetOptions
from nnpkit.deploy.targets.torchscript import quiet_torchscript
from nnpkit.errors import InputError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["METATOMIC_FILE", "require_scripted_whole"]


def require_scripted_whole(model: LoadedModel, target: str) -> nn.Module:
    """The TorchScript module of a model that another program can evaluate without us.

    Raises
    ------
    InputError
        For a correction without its baseline, and a model with stages, which these programs would have to carry.
    """
    if (missing := model.missing_baseline) is not None:
        raise InputError(
            f"the potential is a correction to {missing['name']}",
            where=model.where,
            expected="a whole potential",
        )
    if model.metadata.get("fields"):
        raise InputError(f"{target} cannot evaluate a model with stages", where=model.where)
    return model.module


class MetatomicFile(DeployTarget):
    """A file of metatomic with the output ``energy``, of systems or atoms, in eV and Å."""

    destination = "a file ending in .pt with --to metatomic"

    def takes(self, destination: Path, named: bool) -> bool:
        """Only if it is asked for: the suffix is that of our own files."""
        return named and destination.suffix == ".pt"

    def write(self, model: LoadedModel, destination: Path, options: TargetOptions) -> list[str]:
        """Write the file.

        Raises
        ------
        InputError
            Without metatomic, and for what `require_scripted_whole` refuses.
        """
        if options.without_wall:
            raise InputError("--without-wall is for RuNNer's format", where=str(destination))
        module = require_scripted_whole(model, "metatomic")
        try:
            from nnpkit.deploy.targets.metatomic_model import atomistic_model
        except ImportError as error:
            raise InputError(
                f"metatomic is not installed ({error})",
                where=str(destination),
                hint="install it with `pip install nnpkit[metatomic]`",
            ) from None
        numbers = [atomic_numbers[element] for element in model.elements]
        words: dict[str, Any] = {
            "name": f"nnpkit {model.metadata['kind']}",
            "description": f"written by nnpkit {__version__} from {Path(model.where).name}",
        }
        with quiet_torchscript(), TemporaryDirectory(dir=destination.parent, prefix=".write-") as folder:
            temporary = Path(folder) / destination.name
            atomistic_model(module, numbers, model.cutoff, words).save(temporary)
            os.replace(temporary, destination)
        spread = ["of a committee the mean; its members stay behind"] if model.n_members > 1 else []
        return [f"metatomic: output energy, cutoff {model.cutoff:g} Å, float64", *spread]


METATOMIC_FILE = MetatomicFile()
