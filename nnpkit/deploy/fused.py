"""A loaded model through the fused kernels that LAMMPS uses, wherever they cover it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.targets.torchscript import SelfTest, make_self_test, scale_of_gradients, unoptimized
from nnpkit.kernels.native import Kernel, NoKernelError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential
from nnpkit.models.sum_model import has_charges

__all__ = ["FusedPotential", "fused_potential", "kernel_of"]

# Largest deviations of a kernel on the self-test: relative to max(1 eV, |E|), and eV/Å over scale_of_gradients.
_TOLERANCE = {"float64": (1e-10, 1e-8), "mixed": (1e-3, 1e-3), "float32": (1e-3, 1e-3)}


def kernel_of(model: LoadedModel, precision: str = "float64", isa: str | None = None) -> Kernel:
    """The fused kernel of a model or committee; see `nnpkit.kernels.native.Kernel` for arguments and errors."""
    if model.metadata.get("fields"):
        raise NoKernelError("the model has stages")
    if has_charges(model.metadata["spec"]):
        raise NoKernelError("the charges of a potential depend on whole structures, which kernels do not see")
    require_shared_terms(model.metadata)
    state = model.module.state_dict()
    if "members" in model.metadata:
        parts = {f"member_{m}.": member for m, member in enumerate(model.metadata["members"])}
    else:
        prefix = "" if isinstance(model.module, AtomicModel) else "model."
        parts = {prefix: model.metadata}
    members = []
    for prefix, metadata in parts.items():
        tensors = {
            name.removeprefix(prefix): value.detach().cpu().double().numpy()
            for name, value in state.items()
            if name.startswith(prefix) and value.is_floating_point()
        }
        members.append((json.dumps(metadata), tensors))
    return Kernel(members, precision, isa)


class FusedPotential(Potential):
    """A `Potential` whose numbers come from a kernel: no autograd, and no derivative of a derivative.

    Parameters
    ----------
    model : LoadedModel
        What the kernel is of.
    kernel : Kernel
        From `kernel_of`.
    """

    def __init__(self, model: LoadedModel, kernel: Kernel) -> None:
        nn.Module.__init__(self)
        self.model = model.module
        self.kernel = kernel
        self.terms = terms_beside_kernels(model)

    def energy_and_gradient(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Atomic energies (n_local,) and their derivative by the edge vectors (E, 3), the mean of a committee."""
        found = self.kernel.evaluate(edge_vec.numpy(), neighbor_type.numpy(), offsets.numpy(), types.numpy())
        energy, gradient = torch.from_numpy(found.atomic_energy), torch.from_numpy(found.gradient)
        if self.terms is None:
            return energy, gradient
        of_terms, along = self._of_terms(edge_vec, neighbor_type, offsets, types)
        return energy + of_terms, gradient + along

    def _of_terms(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the terms beside the kernel say: energies (n_local,) and gradient (E, 3)."""
        assert self.terms is not None
        vectors = edge_vec.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            energy = self.terms(vectors, neighbor_type, offsets, types)
            (gradient,) = torch.autograd.grad(energy.sum(), vectors, materialize_grads=True)
        return energy.detach(), gradient

    def member_energies_and_gradients(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same of every member of a committee: (M, n_local) and (M, E, 3)."""
        edges = (edge_vec.numpy(), neighbor_type.numpy(), offsets.numpy(), types.numpy())
        found = self.kernel.evaluate(*edges, members=True)
        energy, gradient = (torch.from_numpy(a).movedim(-1, 0) for a in (found.atomic_energy, found.gradient))
        if self.terms is not None:
            of_terms, along = self._of_terms(edge_vec, neighbor_type, offsets, types)
            energy, gradient = energy + of_terms, gradient + along
        return energy, gradient.contiguous()


def require_shared_terms(metadata: Mapping[str, Any]) -> None:
    """Refuse a kernel for members with different terms beside their networks.

    Raises
    ------
    NoKernelError
        If they have.
    """
    own = [member["spec"].get("terms") or {} for member in metadata.get("members", [metadata])]
    if any(terms != own[0] for terms in own):
        raise NoKernelError("the members have different terms beside their networks")


def terms_beside_kernels(model: LoadedModel) -> Callable[..., Tensor] | None:
    """What gives the energies of the terms that kernels do not know; None of a model without such."""
    member = model.metadata.get("members", [model.metadata])[0]
    if not member["spec"].get("terms"):
        return None
    module: Any = model.module
    own = isinstance(model.module, AtomicModel)
    terms: Callable[..., Tensor] = module.terms.of_others if own else module.terms
    return terms


def fused_potential(model: LoadedModel, precision: str = "float64", isa: str | None = None) -> FusedPotential:
    """The kernel of `model`, checked against the model's self-test; `isa` as of `kernel_of`.

    Raises
    ------
    NoKernelError
        If there is none, with the reason: not compiled, not covered, or other numbers than the model's.
    """
    try:
        potential = FusedPotential(model, kernel_of(model, precision, isa))
        test = _self_test(model)
        energy, gradient = potential.energy_and_gradient(*test[:4])
    except ValueError as problem:
        raise NoKernelError(str(problem)) from None
    off = (energy - test.atomic_energy).abs() / test.atomic_energy.abs().clamp(min=1.0)
    worst = float((gradient - test.edge_gradient).abs().max()) / scale_of_gradients(test.edge_gradient)
    largest = float(off.max()), worst
    tables = max((_tables(member) for member in model.metadata.get("members", [model.metadata])), default=0.0)
    allowed = _TOLERANCE[precision][0] + 10.0 * tables, _TOLERANCE[precision][1] + 100.0 * tables
    if not all(a <= b for a, b in zip(largest, allowed, strict=True)):
        raise NoKernelError("the kernel does not reproduce the self-test of the model")
    return potential


def _tables(metadata: Mapping[str, Any]) -> float:
    """What tables of embedding networks may deviate."""
    return float((metadata.get("tabulation") or {}).get("tolerance", 0.0))


def _self_test(model: LoadedModel) -> SelfTest:
    if isinstance(model.module, AtomicModel):
        return make_self_test(model.module)
    with unoptimized():
        return SelfTest(*model.module.self_test())
