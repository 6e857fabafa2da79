"""What the program asks of a target: something that a potential can be written as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nnpkit.deploy.load import LoadedModel

__all__ = ["DeployTarget", "TargetOptions"]


@dataclass(frozen=True)
class TargetOptions:
    """What the user says of the files to be written.

    Attributes
    ----------
    units : str or None
        ``angstrom-ev`` or ``bohr-hartree``; None if nothing was said and the potential comes with none.
    without_wall : bool
        Leave out a short-range repulsion that the target cannot express.
    """

    units: str | None = None
    without_wall: bool = False


class DeployTarget(ABC):
    """Something that a potential can be written as."""

    destination: ClassVar[str]
    """What is written, in words: ``a folder``."""

    @abstractmethod
    def takes(self, destination: Path, named: bool) -> bool:
        """Whether the target can be written there; `named` if the user asked for it, otherwise by the name alone."""

    @abstractmethod
    def write(self, model: LoadedModel, destination: Path, options: TargetOptions) -> list[str]:
        """Write `model`; lines for the user.

        Raises
        ------
        InputError
            For a potential that the target cannot express.
        """
