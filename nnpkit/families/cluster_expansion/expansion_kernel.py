"""Cluster expansions as the compiled kernels of their training see them."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from nnpkit.kernels.expansion_training import (
    ExpansionKernel,
    ExpansionWeights,
    NeighborEdges,
    expansion_kernel,
)
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import Descriptor

__all__ = ["CompiledExpansion", "training_kernel", "weights_of"]


def _description(descriptor: Any) -> dict[str, Any]:
    """What the kernels need to know of a `ClusterExpansion`."""
    terms = [
        [int(invariant), coefficient, *(int(index) for index in indices if index >= 0)]
        for invariant, coefficient, *indices in descriptor.polynomials.terms.tolist()
    ]

    def radial(which: str) -> dict[str, Any]:
        combinations = getattr(descriptor, f"{which}_combinations")
        return {
            "cutoff": getattr(descriptor, f"{which}_cutoff"),
            "channels": getattr(descriptor, f"{which}_channels"),
            "basis": getattr(descriptor, f"{which}_basis"),
            "combinations": combinations.flatten().tolist(),
        }

    return {
        "n_types": descriptor.n_types,
        "l_max": descriptor.l_max,
        "n_invariants": descriptor.polynomials.n_invariants,
        "cutoff_kind": descriptor.cutoff_kind,
        "terms": terms,
        "radial": radial("radial"),
        "angular": radial("angular"),
    }


def training_kernel(model: AtomicModel, isa: str = "") -> ExpansionKernel:
    """The kernel that measures `model`.

    Raises
    ------
    NoKernelError, ValueError
        See `nnpkit.kernels.expansion_training.ExpansionKernel`.
    """
    networks = [
        {
            "sizes": [network.n_inputs, *(layer.weight.shape[0] for layer in network.layers)],
            "activations": list(network.activations),
        }
        for network in model.networks.networks
    ]
    return expansion_kernel(json.dumps({**_description(model.descriptor), "networks": networks}), isa)


@torch.no_grad()
def weights_of(model: AtomicModel) -> ExpansionWeights:
    """The weights of `model` as they are now."""
    parameters = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    scaling = model.scaling
    return ExpansionWeights(
        parameters, scaling.shift, scaling.factor, float(scaling.lower), float(model.energy_scale)
    )


class CompiledExpansion(Descriptor):
    """The features of a `ClusterExpansion` as it is now, from the kernels; nothing here is for autograd.

    Parameters
    ----------
    descriptor : ClusterExpansion
        The features; its coefficients are looked at in every call.
    isa : str
        Instruction set, see `nnpkit.kernels.expansion_training.ExpansionKernel`; there the errors, too.
    """

    def __init__(self, descriptor: Any, isa: str = "") -> None:
        super().__init__(descriptor.cutoff, descriptor.n_features)
        self._of = [descriptor]  # not a module of this one
        self._spec = json.dumps(_description(descriptor))
        self.isa = expansion_kernel(self._spec, isa).isa

    def engine(self) -> str:
        """Who computes the features, in words; see `Descriptor.engine`."""
        return f"Cluster expansion: kernels, {self.isa}"

    @torch.no_grad()
    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Features (n_local, D); see `Descriptor`."""
        (d,) = self._of
        nothing = torch.zeros((d.n_types, self.n_features[0]), dtype=torch.float64)
        parameters = torch.cat([d.radial_weights.reshape(-1), d.angular_weights.reshape(-1)])
        weights = ExpansionWeights(parameters, nothing, nothing, 0.0, 1.0)
        edges = NeighborEdges(edge_vec, neighbor_type, offsets, types, neighbor_type)
        return expansion_kernel(self._spec, self.isa).features(weights, edges)

    def vjp(
        self, cotangent: Tensor, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> Tensor:
        """Derivative (E, 3) by the edge vectors; see `Descriptor`. The kernel has features alone: PyTorch does it."""
        vjp: Tensor = self._of[0].vjp(cotangent, edge_vec, neighbor_type, offsets, types)
        return vjp
