"""A model as one file, model.pt: TorchScript with metadata and a self-test inside.

The file is what LAMMPS and Python load. Its methods speak the language of `AtomicModel`: edge vectors in Å,
atomic energies in eV, types counted as in ``metadata["elements"]``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnpkit.data.graph import Graph, build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.metadata import METADATA_FILE, model_metadata
from nnpkit.deploy.targets.charged_file import export_charged
from nnpkit.deploy.targets.scripting import (
    MOST_ATOMS,
    ExportedStages,
    SelfTest,
    energies_of_test,
    quiet_torchscript,
    random_cluster,
)
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.sum_model import SumModel, has_charges
from nnpkit.models.terms import SumOfTerms
from nnpkit.seal import seal

__all__ = [
    "ExportedModel",
    "SelfTest",
    "export_model",
    "quiet_torchscript",
    "scale_of_gradients",
    "self_test_deviation",
    "unoptimized",
]

_CENTERS_PER_ELEMENT = 3


class ExportedModel(nn.Module):
    """What is written: an `AtomicModel` together with its self-test.

    Convert it to another precision only after the self-test has been checked: the expected numbers are
    buffers and would be rounded too.
    """

    def __init__(self, model: AtomicModel, test: SelfTest) -> None:
        super().__init__()
        self.model = model
        for name, value in test._asdict().items():
            if value is not None:
                self.register_buffer("test_" + name, value.detach().clone())

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Atomic energies (n_local,) in eV, float64; see `AtomicModel.forward`."""
        return self.model(edge_vec, neighbor_type, offsets, types)

    @torch.jit.export
    def features(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Raw descriptor values (n_local, D)."""
        return self.model.features(edge_vec, neighbor_type, offsets, types)

    @torch.jit.export
    def self_test(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Fields of `SelfTest`."""
        return (
            self.test_edge_vec, self.test_neighbor_type, self.test_offsets, self.test_types,
            self.test_atomic_energy, self.test_edge_gradient,
        )  # fmt: skip


class ExportedWithTerms(ExportedModel):
    """The same of a model with terms that kernels do not know, which are evaluated beside these."""

    @torch.jit.export
    def terms(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Their energies (n_local,), eV; see `nnpkit.models.terms.SumOfTerms.of_others`."""
        return self.model.terms.of_others(edge_vec, neighbor_type, offsets, types)  # type: ignore[union-attr]


def export_model(
    model: AtomicModel,
    path: str | Path,
    extra_metadata: Mapping[str, Any] | None = None,
    frame: Structure | None = None,
) -> None:
    """Write `model` to `path` (a TorchScript archive with ``metadata.json`` inside), atomically.

    Parameters
    ----------
    model : AtomicModel
        In double precision.
    path : path
        Conventionally ``model.pt``.
    extra_metadata : mapping, optional
        JSON-able; added to the metadata, e.g. ``data_sha256`` and ``min_distance``.
    frame : Structure, optional
        Structure of the training data whose environments become the self-test; without one, or if it lacks
        an element of the model, a random cluster.

    Raises
    ------
    InputError
        If the model's numbers on the self-test are not finite.
    """
    if has_charges(model.spec):
        export_charged(model, path, extra_metadata, frame)
        return
    test = make_self_test(model, frame)
    if not all(bool(torch.isfinite(t).all()) for t in test if t is not None):
        raise InputError(
            "the model gives NaN or infinite energies", where=str(path), hint="look at its training"
        )
    metadata = json.dumps(model_metadata(model, extra_metadata), indent=1, allow_nan=False)
    with quiet_torchscript():
        buffer = io.BytesIO()
        staged = model.as_stages() if isinstance(model, SumModel) else model
        with_terms = isinstance(getattr(model, "terms", None), SumOfTerms)
        exported = ExportedWithTerms(model, test) if with_terms else ExportedModel(model, test)
        scripted = torch.jit.script(ExportedStages(staged, test) if model.fields else exported)
        torch.jit.save(scripted, buffer, _extra_files={METADATA_FILE: metadata})
        deviation = self_test_deviation(torch.jit.load(io.BytesIO(buffer.getvalue())))
    if not (deviation[0] < 1e-12 and deviation[1] < 1e-9):
        raise RuntimeError(f"TorchScript computes something else than the model: {deviation}")
    with atomic_write(path, "wb") as stream:
        stream.write(seal(buffer.getvalue()))


def self_test_deviation(module: Any) -> tuple[float, float]:
    """Largest deviations of a module from its stored self-test.

    Returns
    -------
    tuple of float
        Of atomic energies relative to ``max(1 eV, |E|)``, and of gradients in eV/Å over `scale_of_gradients`; NaN
        if there is one.
    """
    test = SelfTest(*module.self_test())
    edge_vec = test.edge_vec.clone().requires_grad_(True)
    with unoptimized():
        energy = energies_of_test(module, test._replace(edge_vec=edge_vec))
        (gradient,) = torch.autograd.grad(energy.sum(), edge_vec)
    relative = (energy.detach() - test.atomic_energy) / test.atomic_energy.abs().clamp(min=1.0)
    worst = float((gradient - test.edge_gradient).abs().max())
    return float(relative.abs().max()), worst / scale_of_gradients(test.edge_gradient)


def scale_of_gradients(stored: Tensor) -> float:
    """What a deviation from `stored` gradients (eV/Å) is divided by before it is judged.

    Rounding grows with the numbers that are rounded: up to 1 eV/Å deviations count as they are, above it relative to
    the largest gradient.
    """
    return max(1.0, float(stored.abs().max())) if stored.numel() else 1.0


def make_self_test(model: AtomicModel, frame: Structure | None = None) -> SelfTest:
    """Self-test of `model` on a few environments of every element, from `frame` if it has them all, and neighbours.

    Of a model with stages it is the whole structure, if that is small.
    """
    too_large = frame is not None and bool(model.fields) and frame.n_atoms > MOST_ATOMS
    if frame is None or too_large or not set(model.elements) <= set(frame.symbols):
        frame = random_cluster(model.elements, model.cutoff)
    graph = build_graph(frame, model.elements, model.cutoff)
    if not len(graph.neighbor):  # atoms far from each other: nothing but constants would be tested
        graph = build_graph(random_cluster(model.elements, model.cutoff), model.elements, model.cutoff)
    nothing = torch.zeros(0)
    if model.fields:
        arguments = (edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
        test = SelfTest(*arguments, nothing, nothing, graph.neighbor)
    else:
        test = SelfTest(*_environments(graph), nothing, nothing)
    test.edge_vec.requires_grad_(True)
    energy = energies_of_test(model, test)
    (gradient,) = torch.autograd.grad(energy.sum(), test.edge_vec)
    return test._replace(
        edge_vec=test.edge_vec.detach(), atomic_energy=energy.detach(), edge_gradient=gradient
    )


def _environments(graph: Graph) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Arguments of a model for the first few atoms of each type in `graph`."""
    vectors, neighbor_type = edge_vectors(graph), graph.types[graph.neighbor]
    n_types = int(graph.types.max()) + 1
    centers = torch.cat(
        [torch.nonzero(graph.types == t).squeeze(1)[:_CENTERS_PER_ELEMENT] for t in range(n_types)]
    )
    slices = [torch.arange(int(graph.offsets[i]), int(graph.offsets[i + 1])) for i in centers]
    edges = torch.cat(slices)
    offsets = torch.tensor([0] + [len(s) for s in slices]).cumsum(0)
    return vectors[edges].clone(), neighbor_type[edges], offsets, graph.types[centers]


def unoptimized() -> AbstractContextManager[None]:
    """Run TorchScript as it is: its optimizer spends seconds on the first calls and gains nothing here."""
    return torch.jit.optimized_execution(False)
