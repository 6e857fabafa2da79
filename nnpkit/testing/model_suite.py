"""Physics that every model of edges must obey: inherit `AtomicModelSuite` and define the fixture ``model``."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nnpkit.data.graph import Graph, build_graph, collate, edge_centers, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential, Prediction
from nnpkit.testing.trial_structures import central_difference, random_structure

__all__ = ["AtomicModelSuite", "model_inputs"]


def energy_of(model: AtomicModel, structure: Structure) -> float:
    """Total energy, eV."""
    return float(Potential(model)(build_graph(structure, model.elements, model.cutoff)).energy)


def strained(structure: Structure, strain: np.ndarray) -> Structure:
    """The structure under ``r -> (1 + strain) r``."""
    deformation = np.eye(3) + strain
    return Structure(
        structure.symbols, structure.positions @ deformation.T, structure.cell @ deformation.T, structure.pbc
    )


def model_inputs(graph: Graph) -> tuple[torch.Tensor, ...]:
    """Arguments of `AtomicModel.forward`."""
    return edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types


class AtomicModelSuite:
    """Tests that need nothing but a model; subclasses define the fixture ``model``."""

    @pytest.fixture
    def model(self) -> AtomicModel:
        """The model, with weights at random and in double precision."""
        raise pytest.UsageError("a suite needs a model")

    @pytest.fixture(params=[True, False, (True, False, True)], ids=["periodic", "open", "mixed"])
    def structure(self, request: pytest.FixtureRequest, model: AtomicModel) -> Structure:
        """Seven atoms, periodic in all, no or two directions."""
        return random_structure(model.elements, 7, seed=3, periodic=request.param)

    def test_forces_are_minus_the_gradient_of_the_energy(
        self, model: AtomicModel, structure: Structure
    ) -> None:
        """Forces are minus the gradient of the energy."""
        forces = Potential(model)(build_graph(structure, model.elements, model.cutoff)).forces.numpy()
        rng = np.random.default_rng(0)
        for _ in range(4):
            atom, axis = int(rng.integers(len(structure.symbols))), int(rng.integers(3))

            def energy(x: float, atom: int = atom, axis: int = axis) -> float:
                moved = structure.positions.copy()
                moved[atom, axis] += x
                return energy_of(model, Structure(structure.symbols, moved, structure.cell, structure.pbc))

            assert -central_difference(energy, 2e-3) == pytest.approx(forces[atom, axis], abs=1e-8, rel=1e-8)

    def test_virial_is_minus_the_derivative_with_respect_to_strain(self, model: AtomicModel) -> None:
        """Virial is minus the derivative with respect to strain."""
        structure = random_structure(model.elements, 7, seed=4)
        virial = Potential(model)(build_graph(structure, model.elements, model.cutoff)).virial[0].numpy()
        for a, b in [(0, 0), (1, 1), (2, 2), (0, 1), (2, 1)]:

            def energy(x: float, a: int = a, b: int = b) -> float:
                strain = np.zeros((3, 3))
                strain[a, b] = x
                return energy_of(model, strained(structure, strain))

            assert -central_difference(energy, 5e-4) == pytest.approx(virial[a, b], abs=1e-7, rel=1e-7)

    def test_virial_is_symmetric_and_forces_sum_to_zero(
        self, model: AtomicModel, structure: Structure
    ) -> None:
        """Virial is symmetric and forces sum to zero."""
        prediction = Potential(model)(build_graph(structure, model.elements, model.cutoff))
        assert torch.allclose(prediction.virial, prediction.virial.transpose(1, 2), atol=1e-11)
        assert prediction.forces.sum(0).abs().max() < 1e-11

    def test_rotation_translation_permutation(self, model: AtomicModel, structure: Structure) -> None:
        """Rotation translation permutation."""
        before = Potential(model)(build_graph(structure, model.elements, model.cutoff))
        rotation = Rotation.random(random_state=1).as_matrix()
        order = np.random.default_rng(5).permutation(len(structure.symbols))
        moved = Structure(
            [structure.symbols[i] for i in order],
            (structure.positions[order] + np.array([0.3, -7.1, 2.2])) @ rotation.T,
            structure.cell @ rotation.T,
            structure.pbc,
        )
        after = Potential(model)(build_graph(moved, model.elements, model.cutoff))
        assert float(after.energy) == pytest.approx(float(before.energy), rel=1e-12)
        assert np.allclose(after.forces.numpy(), before.forces.numpy()[order] @ rotation.T, atol=1e-11)

    def test_two_distant_copies_have_twice_the_energy(self, model: AtomicModel) -> None:
        """Two distant copies have twice the energy."""
        single = random_structure(model.elements, 6, seed=6, periodic=False)
        far = np.concatenate([single.positions, single.positions + np.array([100.0, 0.0, 0.0])])
        double = Structure(single.symbols * 2, far)
        assert energy_of(model, double) == pytest.approx(2.0 * energy_of(model, single), rel=1e-13)

    def test_supercell_is_extensive(self, model: AtomicModel) -> None:
        """Supercell is extensive."""
        single = random_structure(model.elements, 5, seed=7)
        double = Structure(
            single.symbols * 2,
            np.concatenate([single.positions, single.positions + single.cell[1]]),
            single.cell * np.array([[1.0], [2.0], [1.0]]),
            single.pbc,
        )
        assert energy_of(model, double) == pytest.approx(2.0 * energy_of(model, single), rel=1e-13)

    def test_energy_and_forces_go_smoothly_to_the_cutoff(self, model: AtomicModel) -> None:
        """Energy and forces go smoothly to the cutoff."""
        a, b = model.elements[0], model.elements[-1]

        def pair(distance: float) -> Prediction:
            structure = Structure([a, b, a], np.array([[0.0, 0, 0], [distance, 0, 0], [0, 1.3, 0]]))
            return Potential(model)(build_graph(structure, model.elements, model.cutoff + 1.0))

        inside, outside = pair(model.cutoff - 1e-5), pair(model.cutoff + 1e-5)
        assert float(inside.energy) == pytest.approx(float(outside.energy), abs=1e-8)
        assert (inside.forces - outside.forces).abs().max() < 1e-3
        assert outside.forces[1].abs().max() == 0.0

    def test_longer_edges_do_not_matter(self, model: AtomicModel, structure: Structure) -> None:
        """Longer edges do not matter."""
        exact = Potential(model)(build_graph(structure, model.elements, model.cutoff))
        skin = Potential(model)(build_graph(structure, model.elements, model.cutoff + 1.7))
        assert float(skin.energy) == pytest.approx(float(exact.energy), rel=1e-13)
        assert torch.allclose(skin.forces, exact.forces, atol=1e-12)
        assert torch.allclose(skin.virial, exact.virial, atol=1e-11)

    def test_periodic_images_equal_ghost_atoms(self, model: AtomicModel) -> None:
        """Periodic images equal ghost atoms."""
        structure = random_structure(model.elements, 6, seed=8)
        graph = build_graph(structure, model.elements, model.cutoff)
        vectors = edge_vectors(graph)
        center = edge_centers(graph.offsets)
        ghosts = graph.positions[center] + vectors  # every neighbour as an explicit atom
        positions = torch.cat([graph.positions, ghosts]).requires_grad_(True)
        edge_vec = positions[len(graph.types) :] - positions[center]
        energy = model(edge_vec, graph.types[graph.neighbor], graph.offsets, graph.types).sum()
        (gradient,) = torch.autograd.grad(energy, positions)
        forces = -gradient[: len(graph.types)].index_add(0, graph.neighbor, gradient[len(graph.types) :])
        prediction = Potential(model)(graph)
        assert torch.allclose(forces, prediction.forces, atol=1e-12)
        virial = torch.einsum("na,nb->ab", positions, -gradient).detach()
        assert torch.allclose(virial, prediction.virial[0], atol=1e-10)

    def test_empty_rank_and_lonely_atoms(self, model: AtomicModel) -> None:
        """Empty rank and lonely atoms."""
        nothing = torch.zeros(0, dtype=torch.int64)
        none = model(
            torch.zeros(0, 3, dtype=torch.float64), nothing, torch.zeros(1, dtype=torch.int64), nothing
        )
        assert none.shape == (0,)
        lonely = Structure(
            model.elements, np.arange(len(model.elements))[:, None] * np.array([[100.0, 0, 0]])
        )
        prediction = Potential(model)(build_graph(lonely, model.elements, model.cutoff))
        assert torch.isfinite(prediction.energy).all()
        assert prediction.forces.abs().max() == 0.0

    def test_batches_and_chunks_add_up(self, model: AtomicModel) -> None:
        """Batches and chunks add up."""
        structures = [random_structure(model.elements, n, seed=n) for n in (5, 6, 7)]
        graphs = [build_graph(s, model.elements, model.cutoff) for s in structures]
        potential = Potential(model)
        batch = potential(collate(graphs))
        single = [potential(graph) for graph in graphs]
        chunks = potential.predict(collate(graphs), atoms_per_chunk=4)
        assert torch.allclose(batch.energy, torch.cat([p.energy for p in single]), rtol=1e-13, atol=0)
        assert torch.allclose(batch.forces, torch.cat([p.forces for p in single]), atol=1e-12)
        assert torch.allclose(batch.virial, torch.cat([p.virial for p in single]), atol=1e-11)
        assert torch.allclose(chunks.energy, batch.energy, rtol=1e-13, atol=0)
        assert torch.allclose(chunks.forces, batch.forces, atol=1e-12)
        assert torch.allclose(chunks.virial, batch.virial, atol=1e-11)

    def test_torchscript_is_the_same_function(self, model: AtomicModel, structure: Structure) -> None:
        """Torchscript is the same function."""
        graph = build_graph(structure, model.elements, model.cutoff)
        inputs = model_inputs(graph)
        scripted = torch.jit.script(model)
        assert torch.equal(scripted(*inputs), model(*inputs))
        features = scripted.features(*inputs) if hasattr(scripted, "features") else model.features(*inputs)
        assert torch.equal(features, model.features(*inputs))

    def test_single_precision_is_close(self, model: AtomicModel, structure: Structure) -> None:
        """Single precision is close."""
        graph = build_graph(structure, model.elements, model.cutoff)
        exact = Potential(model)(graph)
        edge_vec, *rest = model_inputs(graph)
        single = edge_vec.to(torch.float32).requires_grad_(True)
        energy = model.to(torch.float32)(single, *rest)
        assert energy.dtype == torch.float64
        (gradient,) = torch.autograd.grad(energy.sum(), single)
        assert torch.allclose(energy, exact.atomic_energy, atol=1e-4)
        assert torch.isfinite(gradient).all()

    def test_second_derivatives(self, model: AtomicModel) -> None:
        """Second derivatives."""
        structure = random_structure(model.elements, 4, seed=9, periodic=False)
        graph = build_graph(structure, model.elements, model.cutoff)
        edge_vec, *rest = model_inputs(graph)

        def energy(vectors: torch.Tensor) -> torch.Tensor:
            return model(vectors, *rest).sum()

        assert torch.autograd.gradcheck(energy, edge_vec.requires_grad_(True))
        assert torch.autograd.gradgradcheck(energy, edge_vec.requires_grad_(True))
