"""Charges and electrostatics beside the short-range energies of any family: third and fourth generation, latent.

Networks on the features of the family give each atom a charge (third generation: learnt from labels; latent: learnt
from energies and forces alone) or an electronegativity, from which charges follow by equilibration (fourth
generation). The energy is that of the atomic networks plus the electrostatic energy of the charges.

J. Behler, Chem. Rev. 121, 10037 (2021); T. W. Ko, J. A. Finkler, S. Goedecker, J. Behler, Nat. Commun. 12, 398 (2021);
B. Cheng, npj Comput. Mater. 11, 80 (2025), for the idea of latent charges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nnpkit.errors import InputError
from nnpkit.memory import free_memory
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.electrostatics import (
    Interaction,
    coulomb_interaction,
    lattice_sum,
    screened_interaction,
)
from nnpkit.models.networks import AtomicNetwork, ElementNetworks
from nnpkit.models.scaling import Scaling
from nnpkit.models.short_range import COULOMB
from nnpkit.models.slab_electrostatics import SLABS, with_vacuum, without_images
from nnpkit.models.terms import Term

__all__ = ["GENERATIONS", "ChargedModel", "Electrostatics", "Outputs"]

GENERATIONS = ("third", "fourth", "latent")
_HARD = 100.0  # eV/e²: electronegativities of such elements are large
_NUMBERS = 52  # for each pair of atoms: matrices with their derivatives, while they are made and added


class Electrostatics(NamedTuple):
    """How the atoms of one structure interact."""

    bare: Interaction  # of the Gaussian or point charges: what charges are equilibrated with
    energy: Interaction  # less what screening takes away: what the energy is made of


class Outputs(NamedTuple):
    """What a model says of one structure."""

    atomic_energy: Tensor  # (N,) eV, without the terms
    charges: Tensor  # (channels, N) e
    electrostatic: Tensor  # 0-dim, eV: the part of the energy that the charges have
    network: Tensor  # (N,) what the atomic networks say


def _require_memory(n: int, name: str) -> None:
    """Refuse matrices of `n` atoms that do not fit into the memory."""
    needed, free = 8 * _NUMBERS * n * n, free_memory()
    if needed > free:
        raise InputError(
            f"the interactions of {n} atoms need {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are free",
            where=name or None, expected="smaller structures in training and in Python",
            hint="LAMMPS needs no matrix of all pairs of atoms",
        )  # fmt: skip


class ChargedModel(AtomicModel):
    """``E = sum_i E_i(x_i[, q_i]) + 1/2 sum_ij q_i A_ij q_j``.

    Charges depend on whole structures: what evaluates this model is `nnpkit.models.charged_potential`, and `forward`
    refuses to.

    Parameters
    ----------
    charges : mapping
        ``generation``; ``networks`` ({element: {"hidden": [...], "activations": [...]}}); ``channels``, charges of each
        atom; ``scale``, e (V in the fourth generation) per unit of output; ``widths`` ({element: Å}), 0 for point
        charges; ``screening`` ([inner, outer], Å) or None; ``charge_input``, whether the atomic networks have the
        charge as their last input; ``accuracy`` of Ewald sums; ``trained``, whether the charges go on learning with
        energies and forces.
    elements, descriptor, scaling, networks, terms, energy_scale, reference_energies, spec
        As of `AtomicModel`.
    """

    def __init__(
        self,
        charges: Mapping[str, Any],
        elements: Sequence[str],
        descriptor: Descriptor,
        scaling: Scaling,
        networks: ElementNetworks,
        terms: Term | None,
        energy_scale: float,
        reference_energies: Sequence[float],
        spec: Mapping[str, Any],
    ) -> None:
        super().__init__(
            elements, descriptor, scaling, networks, terms, energy_scale, reference_energies, spec
        )
        if charges["generation"] not in GENERATIONS:
            raise ValueError(f"unknown generation {charges['generation']!r}")
        self.generation: str = charges["generation"]
        self.charge_scale, self.accuracy = float(charges["scale"]), float(charges["accuracy"])
        self.screening, self.charge_input = charges["screening"], bool(charges["charge_input"])
        self.charge_networks = nn.ModuleList(
            ElementNetworks(
                [
                    AtomicNetwork(n, charges["networks"][e]["hidden"], charges["networks"][e]["activations"])
                    for e, n in zip(elements, descriptor.n_features, strict=True)
                ]
            )
            for _ in range(charges["channels"])
        )
        widths = torch.tensor([charges["widths"][e] for e in elements], dtype=torch.float64)
        self.register_buffer("widths", widths)
        self.register_buffer("stretch", torch.ones_like(widths), persistent=False)
        width = max(descriptor.n_features) + 1
        columns = torch.zeros((len(elements), width), dtype=torch.bool)
        columns[torch.arange(len(elements)), torch.tensor(descriptor.n_features)] = True
        self.register_buffer("charge_column", columns, persistent=False)
        if self.generation == "fourth":
            self.hardness_root = nn.Parameter(torch.ones(len(elements), dtype=torch.float64))
        self.trained_charges = bool(charges.get("trained", self.generation == "latent"))
        if not self.trained_charges:  # learnt before everything else, see `nnpkit.workflow.charge_stage`
            for parameter in self.charge_parameters():
                parameter.requires_grad_(False)

    @property
    def hardness(self) -> Tensor:
        """Hardness J (T,) of each element, eV/e²: the square of what is trained, so that it stays positive."""
        return self.hardness_root.square()

    def charge_parameters(self) -> list[nn.Parameter]:
        """Weights that decide the charges."""
        own = list(self.charge_networks.parameters())
        return [*own, self.hardness_root] if self.generation == "fourth" else own

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Refuse: atomic energies need the charges of the whole structure."""
        raise InputError("a potential with charges is evaluated for whole structures, not for environments")

    def electrostatics(
        self,
        positions: Tensor,
        cell: Tensor,
        periodic: tuple[bool, bool, bool],
        types: Tensor,
        name: str = "",
    ) -> Electrostatics:
        """Interactions of the atoms of one structure.

        Raises
        ------
        InputError
            As `nnpkit.models.electrostatics.lattice_sum`, or if there is not enough memory for matrices of all pairs.
        """
        _require_memory(len(types), name)
        widths = self.widths.index_select(0, types)
        reach = self.screening[1] if self.screening else 0.0
        widest = float(widths.max()) if len(types) else 0.0
        slab = periodic if periodic in SLABS else None
        if slab:
            cell, periodic = with_vacuum(positions, cell, slab, widest, self.accuracy), (True, True, True)
        lattice = lattice_sum(positions, cell, periodic, widest, reach, self.accuracy, name=name)
        bare = coulomb_interaction(positions, cell, widths, lattice)
        if slab:
            alone = without_images(positions, cell, widths, slab)
            bare = Interaction(*(a + b for a, b in zip(bare, alone, strict=True)))
        if not self.screening:
            return Electrostatics(bare, bare)
        away = screened_interaction(positions, cell, widths, lattice, *self.screening)
        return Electrostatics(bare, bare.less(away))

    def charges(self, features: Tensor, types: Tensor, bare: Tensor, total_charge: float) -> Tensor:
        """Charges (channels, N) of one structure, differentiable.

        Parameters
        ----------
        features : Tensor
            (N, D) scaled.
        types : Tensor
            (N,) int64.
        bare : Tensor
            (N, N) interactions, eV/e².
        total_charge : float
            e. The first channel of charges adds up to it, others to zero: what is missing is shared evenly.

        Raises
        ------
        InputError
            If the charges have no equilibrium.
        """
        raw = torch.stack([network(features, types) for network in self.charge_networks])
        raw = raw * (self.charge_scale * self.stretch.index_select(0, types))
        totals = raw.new_zeros(len(raw), 1)
        totals[0, 0] = total_charge
        if self.generation != "fourth":
            return raw + (totals - raw.sum(1, keepdim=True)) / max(1, raw.shape[1])
        return self._equilibrium(raw[0], types, bare, totals[0])[None, :]

    def equilibration_matrix(self, types: Tensor, bare: Tensor) -> Tensor:
        """Second derivatives (N, N) of the energy that is minimised, eV/e²: interactions, own energies, hardness."""
        return bare + torch.diag((self.own_interactions() + self.hardness).index_select(0, types))

    def own_interactions(self) -> Tensor:
        """Interaction (T,) of the Gaussian charge of each element with itself, eV/e²."""
        return COULOMB / (self.widths * math.sqrt(math.pi))

    @contextmanager
    def stretched(self) -> Iterator[None]:
        """Let outputs of a fourth generation with hard elements be charges: electronegativities by what one costs.

        Hard elements need electronegativities of hundreds of volts, soft ones of one; weights of all of them begin
        with the same uncertainty. Afterwards they say volts again.
        """
        with torch.no_grad():
            self._stretch(self.units())
        try:
            yield
        finally:
            self._stretch(torch.ones_like(self.widths))

    @torch.no_grad()
    def units(self) -> Tensor:
        """What outputs count by (T,) while charges alone are learnt: V where elements are hard, else one."""
        if self.generation != "fourth" or float(self.hardness.max()) < _HARD:
            return torch.ones_like(self.widths)
        return (self.own_interactions() + self.hardness) / self.charge_scale

    def _stretch(self, stretch: Tensor) -> None:
        """Let outputs count by `stretch` (T,), and what they say stay the same."""
        for networks in self.charge_networks:
            for network, ratio in zip(networks.networks, (self.stretch / stretch).tolist(), strict=True):
                network.shift_and_stretch(0.0, 0.0, ratio)
        self.stretch.copy_(stretch)

    def _equilibrium(self, electronegativity: Tensor, types: Tensor, bare: Tensor, total: Tensor) -> Tensor:
        """Charges (N,) that minimise ``sum_i chi_i q_i + 1/2 q^T M q`` with the given sum (Ko et al., eqs. 3 to 7)."""
        matrix = self.equilibration_matrix(types, bare)
        with torch.no_grad():
            # a constant decides nothing among charges of a given sum, and of a slab it may be very negative
            anyhow = matrix + (matrix.abs().max() if len(types) else 0.0)
            failed = int(torch.linalg.cholesky_ex(anyhow).info) if len(types) else 0
        if failed:
            raise InputError(
                f"the charges have no equilibrium: with the charge of atom {failed - 1} their energy has no lowest "
                "value", expected="positive hardness and widths that are not larger than distances allow",
                hint="atoms on top of each other, or a hardness that is too small",
            )  # fmt: skip
        ones = matrix.new_ones(len(types), 1)
        upper = torch.cat([matrix, ones], dim=1)
        lower = torch.cat([ones.T, ones.new_zeros(1, 1)], dim=1)
        solution = torch.linalg.solve(torch.cat([upper, lower]), torch.cat([-electronegativity, total]))
        return solution[: len(types)]

    def inputs(self, features: Tensor, types: Tensor, charges: Tensor) -> Tensor:
        """What the atomic networks see: scaled features (N, D), with the charge (N,) behind those of each element."""
        if not self.charge_input:
            return features
        wide = torch.cat([features, features.new_zeros(len(features), 1)], dim=1)
        return torch.where(self.charge_column.index_select(0, types), charges[:, None], wide)

    def outputs(
        self, features: Tensor, types: Tensor, bare: Tensor, energy: Tensor, total_charge: float
    ) -> Outputs:
        """Energies and charges of one structure from its scaled features (N, D); arguments as of `charges`.

        `energy` are the interactions (N, N) that make the energy.
        """
        charges = self.charges(features, types, bare, total_charge)
        output = self.networks(self.inputs(features, types, charges[0]), types)
        reference = torch.tensor(self.reference_energies, dtype=torch.float64)
        own = 0.5 * (charges * (charges @ energy)).sum(0)
        energies = output * self.energy_scale + reference.index_select(0, types) + own
        return Outputs(energies, charges, own.sum(), output)
