"""A potential with charges as functions of environments: what LAMMPS evaluates before and after it makes the charges.

The first stage gives what its networks say of each atom, raw charges or electronegativities. Whoever evaluates the
model makes charges of them (`nnpkit.models.charged_model.ChargedModel.charges`) and adds their electrostatic energy;
the second stage gives the short-range energies, which may depend on the charge of the centre.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnpkit.models.charged_model import ChargedModel

__all__ = ["ChargedStages"]


class ChargedStages(nn.Module):
    """The parts of a `ChargedModel` under their own names, with the methods of `nnpkit.models.stages.StagedModel`."""

    def __init__(self, model: ChargedModel) -> None:
        super().__init__()
        self.fields = [("charge", len(model.charge_networks))]
        self.descriptor, self.scaling, self.networks = model.descriptor, model.scaling, model.networks
        self.terms, self.charge_networks = model.terms, model.charge_networks
        self.charge_scale, self.energy_scale = model.charge_scale, model.energy_scale
        self.reference_energies, self.charge_input = model.reference_energies, model.charge_input
        self.register_buffer("widths", model.widths)
        self.register_buffer("charge_column", model.charge_column)
        if model.generation == "fourth":
            self.hardness_root = model.hardness_root

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
        """Raw charges (n_local, channels), e or V; with charges (n_local, channels) as `own`, energies (n_local,)."""
        features = self.scaling(self.descriptor(edge_vec, neighbor_type, offsets, types), types)
        if number == 0:
            raw = [network(features, types) for network in self.charge_networks]
            return torch.stack(raw, dim=1) * self.charge_scale
        if self.charge_input:
            column = torch.zeros((features.shape[0], 1), dtype=features.dtype, device=features.device)
            wide = torch.cat([features, column], dim=1)
            features = torch.where(self.charge_column.index_select(0, types), own[:, :1], wide)
        output = self.networks(features, types).to(torch.float64)
        # torch.tensor(list) rounds to single precision in TorchScript
        shape, device = (1,), types.device
        reference = torch.cat(
            [torch.full(shape, e, dtype=torch.float64, device=device) for e in self.reference_energies]
        )
        energy = output * self.energy_scale + reference.index_select(0, types)
        if self.terms is not None:
            energy = energy + self.terms(edge_vec, neighbor_type, offsets, types).to(torch.float64)
        return energy

    def stages(
        self, edge_vec: Tensor, neighbor: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> list[Tensor]:
        """Both stages with the raw charges as charges, which is enough to test them."""
        nothing = edge_vec.new_zeros((types.shape[0], 0))
        theirs = nothing.index_select(0, neighbor)
        raw = self.stage(0, nothing, theirs, edge_vec, neighbor_type, offsets, types)
        theirs = raw.index_select(0, neighbor)
        return [raw, self.stage(1, raw, theirs, edge_vec, neighbor_type, offsets, types)]

    def last_features(
        self,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        """Raw features (n_local, D)."""
        return self.descriptor(edge_vec, neighbor_type, offsets, types)
