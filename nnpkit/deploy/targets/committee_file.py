"""Several potentials in one file, committee.pt: their mean drives a run, their disagreement watches it.

The definitions are those of ``docs/uncertainty.md``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnpkit.data.graph import Graph, edge_centers, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.metadata import METADATA_FILE, committee_metadata
from nnpkit.deploy.targets.charged_committee import export_charged_committee
from nnpkit.deploy.targets.torchscript import (
    SelfTest,
    make_self_test,
    quiet_torchscript,
    self_test_deviation,
    unoptimized,
)
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential, Prediction, forces_from_edges
from nnpkit.models.sum_model import has_charges
from nnpkit.seal import seal

__all__ = ["Disagreement", "apart", "disagreement", "export_committee"]

_ARGUMENTS = "edge_vec, neighbor_type, offsets, types"
_SIGNATURE = "self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor"


@dataclass
class Disagreement:
    """What the members of a committee say about one structure, and how far they are apart."""

    member_energy: np.ndarray  # (M,) eV
    member_forces: np.ndarray  # (M, N, 3) eV/Å
    factor: float = 1.0  # by which deviations become expected errors, see `nnpkit.workflow.own_uncertainty`
    member_charges: np.ndarray | None = None  # (M, N) e, of members with one charge for each atom

    @property
    def energy_std(self) -> float:
        """Standard deviation of the members' energies, eV per atom, times the factor."""
        return self.factor * float(self.member_energy.std()) / max(self.member_forces.shape[1], 1)

    @property
    def forces_std(self) -> np.ndarray:
        """(N,) eV/Å: ``sqrt(mean_m |F_m - mean F|^2)`` of each atom, times the factor."""
        deviation = self.member_forces - self.member_forces.mean(0)
        return self.factor * np.sqrt((deviation**2).sum(2).mean(0))

    @property
    def charges_std(self) -> np.ndarray | None:
        """(N,) e: standard deviation of the members' charges of each atom, without the factor, which is of forces."""
        return None if self.member_charges is None else self.member_charges.std(0)

    def forces_std_percentile(self, percent: float = 95.0) -> float:
        """Smallest of the atoms' values that `percent` % of the atoms do not exceed, eV/Å."""
        return float(np.percentile(self.forces_std, percent, method="inverted_cdf"))


class _Members(nn.Module):
    """The members as submodules ``member_0``, ``member_1``, ..., and a self-test of their mean."""

    def __init__(self, members: Sequence[AtomicModel], test: SelfTest) -> None:
        super().__init__()
        for index, member in enumerate(members):
            self.add_module(f"member_{index}", member)
        for name, value in test._asdict().items():
            if value is not None:
                self.register_buffer("test_" + name, value.detach().clone())


def _source(n_members: int, described_by: Sequence[int], drawn: bool, terms: bool) -> str:
    """TorchScript of the methods: it has no loop over submodules of different types.

    With `terms` there is a method for what kernels do not know and what is the same of all members.

    Of members drawn around the first, that one is the mean, exactly: the others are moved by what is left.
    """
    first = f"self.member_0.forward({_ARGUMENTS})"
    moved = "torch.cat([all[:1], all[1:] - (all[1:] - all[:1]).mean(0, keepdim=True)])"
    energies = ", ".join(f"self.member_{m}.forward({_ARGUMENTS})" for m in range(n_members))
    features = ", ".join(f"self.member_{m}.features({_ARGUMENTS})" for m in described_by)
    test = ", ".join("self.test_" + name for name in SelfTest._fields if name != "neighbor")
    beside = f"""
def terms({_SIGNATURE}) -> Tensor:
    return self.member_0.terms.of_others({_ARGUMENTS})
"""
    return f"""
def members({_SIGNATURE}) -> Tensor:
    all = torch.stack([{energies}])
    return {moved if drawn else "all"}

def forward({_SIGNATURE}) -> Tensor:
    return {first if drawn else f"self.members({_ARGUMENTS}).mean(0)"}

def features({_SIGNATURE}) -> Tensor:
    return torch.cat([{features}], dim=1)

def self_test(self) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return ({test})
{beside if terms else ""}"""


def export_committee(
    members: Sequence[AtomicModel],
    metadata: Sequence[dict[str, Any]],
    path: str | Path,
    frame: Structure | None = None,
    extra_metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `members` as one file (see `nnpkit.deploy.targets.torchscript.export_model`), atomically.

    Parameters
    ----------
    members : sequence of AtomicModel
        Two or more, with the same elements in the same order.
    metadata : sequence of dict
        Of each member, as `nnpkit.deploy.metadata.model_metadata` makes it. If all but the first have ``drawn`` in
        it, they were drawn around the first, which is their mean by itself; see `nnpkit.workflow.own_uncertainty`.
    path : path
        Conventionally ``committee.pt``.
    frame : Structure, optional
        For the self-test, see `nnpkit.deploy.targets.torchscript.make_self_test`.

    extra_metadata : mapping, optional
        JSON-able; added to the metadata, as ``spread_factor``.

    Returns
    -------
    dict
        The metadata of the file.

    Raises
    ------
    InputError
        If there are fewer than two members, their elements differ, or some have charges and others not.
    """
    if len(members) < 2:
        raise InputError(f"a committee of {len(members)}", where=str(path), expected="at least two members")
    for index, member in enumerate(members):
        if member.elements != members[0].elements:
            raise InputError(
                f"member {index + 1} knows {' '.join(member.elements)}, member 1 knows "
                f"{' '.join(members[0].elements)}",
                where=str(path), expected="the same elements in the same order",
                hint="train the members with the same `elements`",
            )  # fmt: skip
        if member.fields:
            raise InputError(
                f"member {index + 1} has stages, which a committee's file cannot express", where=str(path),
                expected="members whose atoms depend on their own neighbours alone",
                hint="export each member by itself",
            )  # fmt: skip
    if any(has_charges(member.spec) for member in members):
        return export_charged_committee(members, metadata, path, frame, extra_metadata)
    description, groups = committee_metadata(metadata)
    description |= extra_metadata or {}
    largest = max(members, key=lambda member: member.cutoff)  # its environments hold those of the others
    drawn = "drawn" in metadata[1]
    test = _test_of_mean(members[:1] if drawn else members, make_self_test(largest, frame))
    Committee = type("Committee", (_Members,), {})  # TorchScript adds methods to a class once
    with quiet_torchscript(), torch.no_grad():
        scripted = torch.jit.script(Committee(members, test))
        shared = _share_terms(members)
        scripted.define(_source(len(members), [group[0] for group in groups], drawn, shared))
        buffer = io.BytesIO()
        text = json.dumps(description, indent=1, allow_nan=False)
        torch.jit.save(scripted, buffer, _extra_files={METADATA_FILE: text})
    with quiet_torchscript():
        deviation = self_test_deviation(torch.jit.load(io.BytesIO(buffer.getvalue())))
    if not (deviation[0] < 1e-12 and deviation[1] < 1e-9):
        raise RuntimeError(f"TorchScript computes something else than the members: {deviation}")
    with atomic_write(path, "wb") as stream:
        stream.write(seal(buffer.getvalue()))
    return description


def _share_terms(members: Sequence[AtomicModel]) -> bool:
    """Whether all members have the same terms that kernels do not know, and at least one."""
    own: list[Any] = [member.spec.get("terms") for member in members]
    return bool(own[0]) and all(terms == own[0] for terms in own)


def _test_of_mean(members: Sequence[AtomicModel], test: SelfTest) -> SelfTest:
    """The environments of `test` with what the mean of `members` makes of them."""
    edge_vec = test.edge_vec.clone().requires_grad_(True)
    arguments = (edge_vec, test.neighbor_type, test.offsets, test.types)
    with torch.enable_grad():
        energy = torch.stack([member(*arguments) for member in members]).mean(0)
        (gradient,) = torch.autograd.grad(energy.sum(), edge_vec)
    if not (bool(torch.isfinite(energy).all()) and bool(torch.isfinite(gradient).all())):
        raise InputError("a member gives NaN or infinite energies", hint="look at its training")
    return test._replace(atomic_energy=energy.detach(), edge_gradient=gradient)


def apart(each: Sequence[Prediction], factor: float = 1.0) -> Disagreement:
    """What members with charges, evaluated one by one, said of one structure; `factor` as of `disagreement`."""
    charges = [one.charges for one in each if one.charges is not None and len(one.charges) == 1]
    return Disagreement(
        torch.cat([one.energy for one in each]).numpy(), torch.stack([one.forces for one in each]).numpy(), factor,
        torch.cat(charges).numpy() if len(charges) == len(each) else None,
    )  # fmt: skip


@torch.no_grad()
def disagreement(
    potential: Potential, n_members: int, graph: Graph, atoms_per_chunk: int = 128, factor: float = 1.0
) -> Disagreement:
    """Energies and forces of every member of a loaded committee on one structure.

    Parameters
    ----------
    potential : Potential
        Of a module with the method ``members``, or its kernel.
    n_members : int
        Of the committee.
    graph : Graph
        Of one structure.
    atoms_per_chunk : int
        Atoms evaluated at a time; bounds the memory.
    factor : float
        ``spread_factor`` of its metadata.
    """
    center, edge_vec = edge_centers(graph.offsets), edge_vectors(graph)
    neighbor_type, n_atoms = graph.types[graph.neighbor], len(graph.types)
    energy = edge_vec.new_zeros(n_members)
    gradients: list[list[Tensor]] = [[edge_vec.new_zeros(0, 3)] for _ in range(n_members)]
    for start in range(0, n_atoms, atoms_per_chunk):
        stop = min(start + atoms_per_chunk, n_atoms)
        first, last = int(graph.offsets[start]), int(graph.offsets[stop])
        offsets = graph.offsets[start : stop + 1] - first
        with unoptimized():
            energies, rows = potential.member_energies_and_gradients(
                edge_vec[first:last], neighbor_type[first:last], offsets, graph.types[start:stop]
            )
        for own, row in zip(gradients, rows, strict=True):
            own.append(row)
        energy += energies.sum(1)
    forces = [forces_from_edges(torch.cat(rows), center, graph.neighbor, n_atoms) for rows in gradients]
    return Disagreement(energy.numpy(), torch.stack(forces).numpy(), factor)
