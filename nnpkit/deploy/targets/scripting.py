"""What writing TorchScript needs, whatever the model: quiet, and a few atoms to try it on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor, nn

from nnpkit.data.structure import Structure

__all__ = [
    "MOST_ATOMS",
    "ExportedStages",
    "SelfTest",
    "energies_of_test",
    "frame_of_test",
    "quiet_torchscript",
    "random_cluster",
]

MOST_ATOMS = 100
"""Of a self-test with all atoms of a structure."""


class SelfTest(NamedTuple):
    """Arguments of a model and what it made of them, all in double precision."""

    edge_vec: Tensor  # (E, 3) Å
    neighbor_type: Tensor  # (E,)
    offsets: Tensor  # (n_local + 1,)
    types: Tensor  # (n_local,)
    atomic_energy: Tensor  # (n_local,) eV
    edge_gradient: Tensor  # (E, 3) eV/Å, dE/d edge_vec
    neighbor: Tensor | None = None  # (E,) which centre each neighbour is, for a model with stages


class ExportedStages(nn.Module):
    """What is written of a model with stages, which are called one by one: the model with its self-test.

    Parameters
    ----------
    model : StagedModel or ChargedStages
        To be scripted.
    test : SelfTest
        Of all stages one after the other.
    """

    def __init__(self, model: Any, test: SelfTest) -> None:
        super().__init__()
        self.model = model
        self.fields = list(model.fields)
        for name, value in test._asdict().items():
            self.register_buffer("test_" + name, value.detach().clone())

    @torch.jit.export
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
        """See `StagedModel.stage`."""
        return self.model.stage(number, own, theirs, edge_vec, neighbor_type, offsets, types)

    @torch.jit.export
    def stages(
        self, edge_vec: Tensor, neighbor: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> list[Tensor]:
        """See `StagedModel.stages`."""
        return self.model.stages(edge_vec, neighbor, neighbor_type, offsets, types)

    @torch.jit.export
    def last_features(
        self,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        """See `StagedModel.last_features`."""
        return self.model.last_features(own, theirs, edge_vec, neighbor_type, offsets, types)

    @torch.jit.export
    def self_test(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Fields of `SelfTest`."""
        return (
            self.test_edge_vec, self.test_neighbor_type, self.test_offsets, self.test_types,
            self.test_atomic_energy, self.test_edge_gradient, self.test_neighbor,
        )  # fmt: skip


def energies_of_test(model: Any, test: SelfTest) -> Tensor:
    """What a model says of the arguments of a self-test."""
    energies: Tensor
    if test.neighbor is None:
        energies = model(test.edge_vec, test.neighbor_type, test.offsets, test.types)
    else:
        arguments = (test.edge_vec, test.neighbor, test.neighbor_type, test.offsets, test.types)
        energies = model.stages(*arguments)[-1]
    return energies


def frame_of_test(structures: Iterable[Structure], elements: Iterable[str]) -> Structure | None:
    """The first structure with all `elements` whose atoms can have neighbours: an isolated atom tests nothing."""
    wanted = set(elements)
    able = (s for s in structures if s.n_atoms > 1 or s.pbc.any())
    return next((s for s in able if wanted <= set(s.symbols)), None)


def random_cluster(elements: list[str], cutoff: float) -> Structure:
    """Four atoms (or eight, of a single element) of each element, closely packed without overlap."""
    random = np.random.default_rng(20240229)
    symbols = elements * (8 if len(elements) == 1 else 4)
    radii = np.array([covalent_radii[atomic_numbers[s]] for s in symbols])
    radii *= min(1.0, 0.2 * cutoff / radii.mean())  # several neighbours, however short the cutoff
    positions = np.zeros((0, 3))
    side = 2.0 * float(radii.mean())
    while len(positions) < len(symbols):
        trial = random.uniform(0.0, side, 3)
        reach = radii[: len(positions)] + radii[len(positions)]
        if np.all(np.linalg.norm(positions - trial, axis=1) > reach):
            positions = np.vstack([positions, trial])
        side *= 1.002
    return Structure(symbols=symbols, positions=positions, name="self-test")


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Hide torch's announcement that TorchScript is no longer developed; it is what LAMMPS can load."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.\w+.* is (deprecated|not supported)")
        yield
