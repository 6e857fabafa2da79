"""The function that everything else evaluates: edge vectors in, atomic energies out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import ElementNetworks
from nnpkit.models.scaling import Scaling
from nnpkit.models.terms import Term

__all__ = ["AtomicModel"]


class AtomicModel(nn.Module):
    """``E_i = network_t(scaled features of i) * energy_scale + reference_energy_t + terms``.

    Parameters
    ----------
    elements : sequence of str
        Element of each type index.
    descriptor, scaling, networks, terms : nn.Module
        The parts, in the order of evaluation; `terms` have no trained weights and may be None.
    energy_scale : float
        eV per unit of network output.
    reference_energies : sequence of float
        Energy, eV, added to every atom of each element. Kept in double precision whatever the precision of
        the rest.
    spec : mapping
        JSON-able description from which `nnpkit.families.factory.build_model` makes the same architecture.

    Attributes
    ----------
    fields : sequence of (str, int)
        What atoms tell each other between stages; nothing unless it is a `nnpkit.models.stages.StagedModel`.
    """

    fields = ()  # type: Sequence[tuple[str, int]]  # no annotation, which TorchScript would read

    def __init__(
        self,
        elements: Sequence[str],
        descriptor: Descriptor,
        scaling: Scaling,
        networks: ElementNetworks,
        terms: Term | None,
        energy_scale: float,
        reference_energies: Sequence[float],
        spec: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.elements = list(elements)
        self.cutoff = max(descriptor.cutoff, 0.0 if terms is None else terms.cutoff)
        self.descriptor = descriptor
        self.scaling = scaling
        self.networks = networks
        self.terms = terms
        self.energy_scale = float(energy_scale)
        self.reference_energies = [float(e) for e in reference_energies]
        self.spec = dict(spec)

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Atomic energies (n_local,) in eV, float64.

        Parameters
        ----------
        edge_vec : Tensor
            (E, 3) Å, from centre to neighbour, sorted by centre.
        neighbor_type : Tensor
            (E,) int64.
        offsets : Tensor
            (n_local + 1,) int64: edges of centre i are ``offsets[i]:offsets[i + 1]``.
        types : Tensor
            (n_local,) int64.
        """
        features = self.descriptor(edge_vec, neighbor_type, offsets, types)
        energy = self.energy_of_features(features, types)
        if self.terms is not None:
            energy = energy + self.terms(edge_vec, neighbor_type, offsets, types).to(torch.float64)
        return energy

    def energy_of_features(self, features: Tensor, types: Tensor) -> Tensor:
        """Atomic energies (n_local,) without the terms, from raw features (n_local, D)."""
        output = self.networks(self.scaling(features, types), types).to(torch.float64)
        # torch.tensor(list) rounds to single precision in TorchScript
        shape, device = (1,), types.device
        reference = torch.cat(
            [torch.full(shape, e, dtype=torch.float64, device=device) for e in self.reference_energies]
        )
        return output * self.energy_scale + reference.index_select(0, types)

    def features(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Raw descriptor values (n_local, D)."""
        return self.descriptor(edge_vec, neighbor_type, offsets, types)

    def stage(
        self,
        number: int,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        """The only stage of a model without fields: atomic energies; see `nnpkit.models.stages.StagedModel.stage`."""
        return self.forward(edge_vec, neighbor_type, offsets, types)

    def last_features(
        self,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        """Raw features (n_local, D); see `nnpkit.models.stages.StagedModel.last_features`."""
        return self.features(edge_vec, neighbor_type, offsets, types)
