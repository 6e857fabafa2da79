"""Kinds of observables: what a label is of, and what a potential says of the same. A new kind is one class.

The fast measurements of families know energies, forces and virials. Automatic differentiation
(`nnpkit.measure.autograd`) measures any kind that is registered here or under the entry points ``nnpkit.observables``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from nnpkit.data.graph import Graph
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.measure.label_sums import VIRIAL_COMPONENTS
from nnpkit.measure.origins import energy_origin, force_origin, virial_origin
from nnpkit.models.potential import Prediction
from nnpkit.optim.measurement import Origin
from nnpkit.registry import Registry

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["OBSERVABLES", "Observable", "labels_of", "refuse_others", "wanted"]


class Observable(ABC):
    """One kind of label.

    Attributes
    ----------
    what : str
        How a structure without such a label is described: it has no ...
    extensive : bool
        Whether a label is of all atoms together, so that its errors are counted for each atom.
    """

    what: ClassVar[str]
    extensive: ClassVar[bool] = False

    @abstractmethod
    def label(self, structure: Structure) -> Any:
        """The label of a structure, of any shape; None if it has none."""

    @abstractmethod
    def predicted(self, prediction: Prediction, graph: Graph) -> Tensor:
        """The same (M,) as a potential says it of one structure, differentiable."""

    def flat(self, label: Tensor) -> Tensor:
        """The label as (M,) in the order of `predicted`."""
        return label.reshape(-1)

    def origin(
        self, label: Tensor, chosen: Tensor | None, n_atoms: int, reference: float, structure: int
    ) -> Origin | None:
        """What the rows of the label are, for filters that judge them; None: not known.

        Parameters
        ----------
        label : Tensor
            In its own shape.
        chosen : Tensor, optional
            Indices of the rows among all.
        reference : float
            Sum of the reference energies of the atoms, eV.
        structure : int
            Number of the structure.
        """
        return None


class Energy(Observable):
    """Energy of a structure, eV."""

    what = "energy"
    extensive = True

    def label(self, structure: Structure) -> Any:
        """See `Observable`."""
        return structure.energy

    def predicted(self, prediction: Prediction, graph: Graph) -> Tensor:
        """See `Observable`."""
        return prediction.energy

    def origin(
        self, label: Tensor, chosen: Tensor | None, n_atoms: int, reference: float, structure: int
    ) -> Origin | None:
        """See `Observable`."""
        return energy_origin(float(label) - reference, n_atoms, structure)


class Force(Observable):
    """Components of the forces on the atoms, eV/Å."""

    what = "forces"

    def label(self, structure: Structure) -> Any:
        """See `Observable`."""
        return structure.forces

    def predicted(self, prediction: Prediction, graph: Graph) -> Tensor:
        """See `Observable`."""
        return prediction.forces.reshape(-1)

    def origin(
        self, label: Tensor, chosen: Tensor | None, n_atoms: int, reference: float, structure: int
    ) -> Origin | None:
        """See `Observable`."""
        components = torch.arange(label.numel()) if chosen is None else chosen
        return force_origin(label[components // 3], structure)


class Virial(Observable):
    """The six independent components of the virial of a structure, eV."""

    what = "stress"
    extensive = True

    def label(self, structure: Structure) -> Any:
        """See `Observable`."""
        return structure.virial

    def predicted(self, prediction: Prediction, graph: Graph) -> Tensor:
        """See `Observable`."""
        return self.flat(prediction.virial[0])

    def flat(self, label: Tensor) -> Tensor:
        """See `Observable`; the label is taken to be symmetric."""
        index = tuple(torch.tensor(axis) for axis in zip(*VIRIAL_COMPONENTS, strict=True))
        return (0.5 * (label + label.T))[index]

    def origin(
        self, label: Tensor, chosen: Tensor | None, n_atoms: int, reference: float, structure: int
    ) -> Origin | None:
        """See `Observable`."""
        return virial_origin(label, n_atoms, structure)


class Charge(Observable):
    """Charges of the atoms, e."""

    what = "charges"

    def label(self, structure: Structure) -> Any:
        """See `Observable`."""
        return structure.charges

    def predicted(self, prediction: Prediction, graph: Graph) -> Tensor:
        """See `Observable`."""
        if prediction.charges is None or len(prediction.charges) != 1:
            raise InputError("the potential does not give every atom one charge", expected="model.charges")
        return prediction.charges[0]


class Dipole(Observable):
    """Dipole about the origin of a structure that is not periodic, e Å."""

    what = "dipole"

    def label(self, structure: Structure) -> Any:
        """See `Observable`."""
        return None if structure.pbc.any() else structure.dipole

    def predicted(self, prediction: Prediction, graph: Graph) -> Tensor:
        """See `Observable`."""
        charges: Tensor = OBSERVABLES.get("charge").predicted(prediction, graph)
        return charges @ graph.positions


OBSERVABLES: Registry[Observable] = Registry(
    "observable",
    "nnpkit.observables",
    {
        "energy": "nnpkit.measure.observables:ENERGY",
        "force": "nnpkit.measure.observables:FORCE",
        "virial": "nnpkit.measure.observables:VIRIAL",
        "charge": "nnpkit.measure.observables:CHARGE",
        "dipole": "nnpkit.measure.observables:DIPOLE",
    },
)
ENERGY, FORCE, VIRIAL, CHARGE, DIPOLE = Energy(), Force(), Virial(), Charge(), Dipole()


def labels_of(structure: Structure) -> dict[str, Tensor]:
    """All labels that a structure has, by their kinds."""
    found = {kind: OBSERVABLES.get(kind).label(structure) for kind in OBSERVABLES}
    return {
        kind: torch.as_tensor(value, dtype=torch.float64)
        for kind, value in found.items()
        if value is not None
    }


def wanted(labels: Labels, position: int) -> Sequence[tuple[str, Tensor | None]]:
    """Kinds of the labels of the structure at a position in `labels`, with the rows that are used; None: all."""
    found: list[tuple[str, Tensor | None]] = [("energy", None)] if labels.energy else []
    if labels.components is not None and len(labels.components[position]) > 0:
        found.append(("force", labels.components[position]))
    if labels.virial:
        found.append(("virial", None))
    return [*found, *((kind, None) for kind in labels.others)]


def refuse_others(labels: Labels) -> None:
    """For measurements that know energies, forces and virials alone.

    Raises
    ------
    InputError
        If other kinds are asked for.
    """
    if labels.others:
        raise InputError(
            f"labels of kind {', '.join(labels.others)} are not measured here", expected="energies, forces and virials",
            hint="automatic differentiation measures any kind (nnpkit.measure.autograd)",
        )  # fmt: skip
