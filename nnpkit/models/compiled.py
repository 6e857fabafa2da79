"""Descriptors from compiled kernels where there are some: the one place that decides."""

from __future__ import annotations

import json

from torch import Tensor

from nnpkit.data.graph import edge_centers
from nnpkit.errors import InputError
from nnpkit.models.acsf import Acsf
from nnpkit.models.descriptor import Descriptor, EdgeJacobian
from nnpkit.ops.descriptor import descriptor_kernel, symmetry_functions, symmetry_functions_vjp
from nnpkit.ops.native import NoKernelError

__all__ = ["CompiledAcsf", "descriptor_engine", "fast_descriptor"]


class CompiledAcsf(Descriptor):
    """The symmetry functions of an `Acsf` in double precision on the processor, from the kernels.

    Parameters
    ----------
    descriptor : Acsf
        The functions.
    isa : str
        Instruction set, see `nnpkit.ops.descriptor.DescriptorKernel`; there the errors, too.
    """

    def __init__(self, descriptor: Acsf, isa: str = "") -> None:
        super().__init__(descriptor.cutoff, descriptor.n_features)
        self.spec = json.dumps(descriptor.spec)
        self.isa = descriptor_kernel(self.spec, isa).isa

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Symmetry functions (n_local, D); see `Descriptor`."""
        return symmetry_functions(edge_vec, neighbor_type, offsets, types, self.spec, self.isa)

    def jacobian(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, EdgeJacobian]:
        """Features (n_local, D) and their derivatives; see `Descriptor.jacobian`."""
        kernel, edges = descriptor_kernel(self.spec, self.isa), (edge_vec, neighbor_type, offsets, types)
        return kernel.features(*edges), EdgeJacobian(kernel.jacobian(*edges), edge_centers(offsets))

    def vjp(
        self, cotangent: Tensor, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> Tensor:
        """Derivative (E, 3) of the features times `cotangent`; see `Descriptor.vjp`."""
        return symmetry_functions_vjp(cotangent, edge_vec, neighbor_type, offsets, types, self.spec, self.isa)


def fast_descriptor(descriptor: Descriptor) -> Descriptor:
    """`descriptor`, evaluated by the kernels if they are compiled and cover it, else as it is.

    Raises
    ------
    InputError
        If ``NNPKIT_ISA`` asks for what this processor has not.
    """
    if not isinstance(descriptor, Acsf):
        return descriptor
    try:
        return CompiledAcsf(descriptor)
    except NoKernelError:
        return descriptor
    except ValueError as problem:
        raise InputError(f"kernels of symmetry functions: {problem}") from None


def descriptor_engine(descriptor: Descriptor) -> str:
    """What `fast_descriptor` makes of it, in words: ``"kernels, avx512"``."""
    fast = fast_descriptor(descriptor)
    if isinstance(fast, CompiledAcsf):
        return f"kernels, {fast.isa}"
    return "PyTorch; run nnpkit build for speed" if isinstance(descriptor, Acsf) else "PyTorch"
