"""How charges of a structure change with the weights, in closed form and for all charges at once.

Charges are linear in what the networks say. Of the third generation ``q = n + (Q - sum n) / N``; of the fourth
``q = Q u - P n`` with P the upper left block of the inverse of the matrix of the equilibration, which changes with the
hardness by ``dq = -P q dJ``. Automatic differentiation would solve that system again for every charge.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nnpkit.measure.closed_form import Tape, plain
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.networks import AtomicNetwork

__all__ = ["charge_rows"]


@torch.no_grad()
def charge_rows(
    model: ChargedModel,
    features: Tensor,
    types: Tensor,
    bare: Tensor,
    charges: Tensor,
    parameters: list[Tensor],
) -> Tensor:
    """Derivatives (N, P) of the first charges (N,) of the atoms of one structure, e, by `parameters`.

    Parameters
    ----------
    model : ChargedModel
        With one network for each element and channel that is not a descriptor's.
    features : Tensor
        (N, D) scaled, which do not depend on the parameters.
    types : Tensor
        (N,) int64.
    bare : Tensor
        (N, N) interactions, eV/e².
    charges : Tensor
        (N,) of the model as it is.
    parameters : list of Tensor
        Of the model; those that do not change charges have columns of zeros.
    """
    by_output = _by_output(model, types, bare)
    known: dict[int, Tensor] = {}
    for t, network in enumerate(model.charge_networks[0].networks):
        assert isinstance(network, AtomicNetwork)
        mine = torch.nonzero(types == t).squeeze(1)
        tape = Tape(plain(network), features.index_select(0, mine)[:, : network.n_inputs])
        gradients = tape.gradients(by_output[:, mine, None] * (model.charge_scale * model.stretch[t]))
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            known[id(parameter)] = gradient.reshape(len(types), -1)
    if model.generation == "fourth":
        own = torch.nn.functional.one_hot(types, len(model.elements)).to(charges.dtype)
        known[id(model.hardness_root)] = 2.0 * model.hardness_root * (by_output @ (own * charges[:, None]))
    columns = [known.get(id(p), charges.new_zeros(len(types), p.numel())) for p in parameters]
    return torch.cat(columns, dim=1)


def _by_output(model: ChargedModel, types: Tensor, bare: Tensor) -> Tensor:
    """Derivatives (N, N) of charges by what the networks say of each atom, in e or V."""
    n = len(types)
    if model.generation != "fourth":
        return torch.eye(n, dtype=bare.dtype) - 1.0 / max(1, n)
    bordered = bare.new_ones(n + 1, n + 1)
    bordered[:n, :n], bordered[n, n] = model.equilibration_matrix(types, bare), 0.0
    return -torch.linalg.inv(bordered)[:n, :n]
