"""Symmetry functions and their derivatives from the compiled kernels, as a descriptor."""

from __future__ import annotations

import json

from torch import Tensor

from nnpkit.data.graph import edge_centers
from nnpkit.kernels.acsf_operators import (
    FeatureChanges,
    descriptor_kernel,
    symmetry_functions,
    symmetry_functions_vjp,
)
from nnpkit.models.descriptor import Descriptor, EdgeJacobian

__all__ = ["CompiledAcsf"]


class CompiledAcsf(Descriptor):
    """The symmetry functions of an `Acsf` in double precision on the processor, from the kernels.

    Parameters
    ----------
    descriptor : Acsf
        The functions, of which the description counts.
    isa : str
        Instruction set, see `nnpkit.kernels.acsf_operators.DescriptorKernel`; there the errors, too.
    """

    def __init__(self, descriptor: Descriptor, isa: str = "") -> None:
        super().__init__(descriptor.cutoff, descriptor.n_features)
        self.spec = json.dumps(descriptor.spec)
        self.isa = descriptor_kernel(self.spec, isa).isa

    def engine(self) -> str:
        """Who computes the features, in words; see `Descriptor.engine`."""
        return f"Symmetry functions: kernels, {self.isa}"

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Symmetry functions (n_local, D); see `Descriptor`."""
        return symmetry_functions(edge_vec, neighbor_type, offsets, types, self.spec, self.isa)

    def jacobian(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, EdgeJacobian]:
        """Features (n_local, D) and their derivatives; see `Descriptor.jacobian`."""
        edges = (edge_vec, neighbor_type, offsets, types)
        return descriptor_kernel(self.spec, self.isa).features(*edges), self.derivatives(*edges)

    def derivatives(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> EdgeJacobian:
        """See `Descriptor.derivatives`; features are not computed for it."""
        kernel = descriptor_kernel(self.spec, self.isa)
        return EdgeJacobian(kernel.jacobian(edge_vec, neighbor_type, offsets, types), edge_centers(offsets))

    def changes(
        self,
        edge_vec: Tensor,
        neighbor: Tensor,
        offsets: Tensor,
        types: Tensor,
        components: Tensor,
        with_virial: bool,
        factor: Tensor,
    ) -> FeatureChanges:
        """See `nnpkit.models.descriptor.ChangesAlong`."""
        kernel = descriptor_kernel(self.spec, self.isa)
        return kernel.changes(edge_vec, neighbor, offsets, types, components, with_virial, factor)

    def vjp(
        self, cotangent: Tensor, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> Tensor:
        """Derivative (E, 3) of the features times `cotangent`; see `Descriptor.vjp`."""
        return symmetry_functions_vjp(cotangent, edge_vec, neighbor_type, offsets, types, self.spec, self.isa)
