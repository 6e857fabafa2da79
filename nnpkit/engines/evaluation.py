"""Several structures in one evaluation, as engines ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.data.graph import build_graph, collate, edge_centers, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.targets.torchscript import unoptimized
from nnpkit.errors import InputError
from nnpkit.md.calculator import evaluator
from nnpkit.models.committee_potential import CommitteePotential
from nnpkit.models.potential import Prediction, forces_from_edges, virial_from_edges
from nnpkit.models.sum_potential import potential_of
from nnpkit.threads import torch_threads

__all__ = ["BatchEvaluator", "MemberPrediction"]


class MemberPrediction(NamedTuple):
    """What the M members of a committee say of one structure."""

    energy: Tensor  # (M,) eV
    forces: Tensor  # (M, N, 3) eV/Å
    virial: Tensor  # (M, 3, 3) eV, -dE/dstrain


class BatchEvaluator:
    """Evaluates structures by the kernel that LAMMPS and ASE use, by PyTorch where there is none.

    Parameters
    ----------
    model : LoadedModel
        A whole potential: a correction needs its baseline, which is not in the file.
    kernel : {'fused', 'torchscript'}
        What evaluates the model.
    precision : {'float64', 'mixed', 'float32'}
        Of the kernel.
    atoms_per_chunk : int
        Atoms evaluated at a time; bounds the memory.

    Raises
    ------
    InputError
        For a correction without its baseline, and an unknown kernel or precision.
    """

    def __init__(
        self,
        model: LoadedModel,
        kernel: str = "fused",
        precision: str = "float64",
        atoms_per_chunk: int = 128,
    ) -> None:
        if (missing := model.missing_baseline) is not None:
            raise InputError(
                f"the potential is a correction to {missing['name']}", where=model.where,
                expected="a whole potential", hint="only the ASE calculator adds such a baseline",
            )  # fmt: skip
        if kernel not in ("fused", "torchscript") or precision not in ("float64", "mixed", "float32"):
            raise InputError(
                f"kernel {kernel!r}, precision {precision!r}",
                expected="fused or torchscript; float64, mixed or float32",
            )
        self.model, self.atoms_per_chunk = model, atoms_per_chunk
        self._potential = (evaluator(model, precision, "cpu") if kernel == "fused" else None) or potential_of(
            model.module
        )

    def predict(self, structures: Sequence[Structure]) -> Prediction:
        """What the model says of all structures, their atoms one after the other.

        Raises
        ------
        InputError
            For an element that the model lacks, or atoms at the same place.
        """
        with torch_threads(1), unoptimized():
            graph = collate([build_graph(s, self.model.elements, self.model.cutoff) for s in structures])
            return self._potential.predict(graph, self.atoms_per_chunk)

    def members(self, structure: Structure) -> MemberPrediction | None:
        """What each member of a committee says of a structure; None of a single potential, or one with stages."""
        if self.model.n_members < 2 or self.model.metadata.get("fields"):
            return None
        with torch_threads(1), unoptimized():
            graph = build_graph(structure, self.model.elements, self.model.cutoff)
            if isinstance(self._potential, CommitteePotential):
                each = self._potential.each(graph, self.atoms_per_chunk)
                return MemberPrediction(
                    torch.cat([one.energy for one in each]), torch.stack([one.forces for one in each]),
                    torch.cat([one.virial for one in each]),
                )  # fmt: skip
            edge_vec, center = edge_vectors(graph), edge_centers(graph.offsets)
            energies, gradients = self._potential.member_energies_and_gradients(
                edge_vec, graph.types[graph.neighbor], graph.offsets, graph.types
            )
            belongs = graph.structure[center]
            forces = [forces_from_edges(g, center, graph.neighbor, len(graph.types)) for g in gradients]
            virials = [virial_from_edges(g, edge_vec, belongs, 1)[0] for g in gradients]
        return MemberPrediction(energies.sum(1), torch.stack(forces), torch.stack(virials))
