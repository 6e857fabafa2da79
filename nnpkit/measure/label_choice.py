"""Which labels of which structures: what there are, what one update uses, how wrong they are now."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["Available", "Judge", "LabelErrors", "Labels"]


class Labels(NamedTuple):
    """One update's worth of labels."""

    structures: list[int]  # indices into the FrameStore
    energy: bool  # use the energies of these structures
    components: list[Tensor] | None  # per structure: indices into forces.reshape(-1); None: no forces
    virial: bool  # use the virials of these structures
    group: int | None = None  # so many consecutive components are one observation, their signed mean
    others: tuple[str, ...] = ()  # kinds of `nnpkit.measure.observables` beside these, of all the structures


class Available(NamedTuple):
    """Which labels a structure has."""

    energy: bool
    components: int  # number of force components, 0 without forces
    virial: bool
    name: str = ""  # for messages
    n_atoms: int = 1


class LabelErrors(NamedTuple):
    """Errors of the labels of a structure, without sign; of those that it has."""

    energy: float  # eV/atom
    forces: Tensor  # (3N,) eV/Å


class Judge(Protocol):
    """Knows how wrong the potential is, as it is now."""

    def errors(self, index: int) -> LabelErrors:
        """Errors of a training structure."""
        ...
