"""What a family measures with against automatic differentiation of its potential, to 1e-10: inherit `MeasurerSuite`."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from nnpkit.data.structure import Structure
from nnpkit.families.registered import family_of
from nnpkit.measure.autograd import AutogradObserver, GraphStore
from nnpkit.measure.contract import Measures
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.optim.measurement import batch_mean
from nnpkit.testing.trial_structures import random_structure

__all__ = ["MeasurerSuite", "assert_close", "labelled_structures"]

_COMPONENTS = [torch.tensor([0, 7, 7, 13]), torch.tensor([2])]


def labelled_structures(elements: list[str]) -> list[Structure]:
    """Three structures in a triclinic cell with labels at random."""
    structures = []
    for seed in (21, 22, 23):
        rng = np.random.default_rng(seed)
        structure = random_structure(elements, 6 + seed % 3, seed=seed)
        structure.energy = -40.0 + float(rng.normal())
        structure.forces = rng.normal(size=structure.positions.shape)
        stress = rng.normal(size=(3, 3))
        structure.stress = 0.5 * (stress + stress.T)
        structures.append(structure)
    return structures


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-10 of the largest number."""
    assert found.shape == expected.shape
    tolerance = 1e-10 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0.0)


class MeasurerSuite:
    """Tests of ``preparation`` and ``observer`` of a family; subclasses define the fixture ``model``."""

    noise: ClassVar[Noise] = Noise(energy=2e-3, force=0.1, divide_by_atoms=True, energy_factor=3.0)
    weights: ClassVar[LossWeights] = LossWeights(1.0, 2.0, 0.5)
    factors: ClassVar[list[float]] = [0.5, 2.0, 1.5]
    choices: ClassVar[dict[str, Labels]] = {
        "energies": Labels([0, 1, 2], True, None, False),
        "forces": Labels([0, 2], False, _COMPONENTS, False),
        "signed means": Labels([0, 2], False, [torch.arange(9), torch.arange(6)], False, 3),
        "virials": Labels([1, 2], False, None, True),
        "everything": Labels([0, 2], True, _COMPONENTS, True),
    }

    @pytest.fixture
    def model(self) -> AtomicModel:
        """The model, with weights at random."""
        raise pytest.UsageError("a suite needs a model")

    def prepare(self, model: AtomicModel, structures: list[Structure]) -> Any:
        """The store of the family; override it to make the family as exact as it can be."""
        return family_of(model.spec).preparation(model, structures)(structures, 1e9)

    @pytest.fixture
    def observers(self, model: AtomicModel) -> tuple[Measures, AutogradObserver]:
        """What the family measures with, and the slow and right way."""
        structures = labelled_structures(model.elements)
        store = self.prepare(model, structures)
        fast = family_of(model.spec).observer(store, self.noise, self.weights, self.factors)
        slow = AutogradObserver(GraphStore(model, structures, 0.0), self.noise, self.weights, self.factors)
        return fast, slow

    @pytest.mark.parametrize("choice", ["energies", "forces", "signed means", "virials", "everything"])
    def test_residuals_and_rows_are_those_of_the_potential(self, observers: Any, choice: str) -> None:
        """What a filter gets: residuals, Jacobian, noise, and what the rows are."""
        fast, slow = (observer.measure(self.choices[choice]) for observer in observers)
        assert_close(fast.residual, slow.residual)
        assert_close(fast.jacobian, slow.jacobian)
        assert_close(fast.noise, slow.noise)
        assert (fast.origin is None) == (slow.origin is None)
        if fast.origin is not None:
            for own, other in zip(fast.origin, slow.origin, strict=True):
                assert_close(*(torch.as_tensor(value, dtype=torch.float64) for value in (own, other)))

    @pytest.mark.parametrize("size", [2, 3, 11])  # more processes than atoms, too
    @pytest.mark.parametrize("choice", ["energies", "forces", "virials", "everything"])
    def test_what_parts_of_the_atoms_add_is_the_whole(self, observers: Any, choice: str, size: int) -> None:
        """What several processes measure of one structure, if the family has that."""
        observer, labels = observers[0], self.choices[choice]
        parts = [observer.of_part(rank, size) for rank in range(size)]
        if any(part is None for part in parts):
            pytest.skip("a family whose structures are measured as a whole")
        found, whole = [part.measure(labels) for part in parts], observer.measure(labels)
        assert_close(torch.stack([part.residual for part in found]).sum(0), whole.residual)
        assert_close(torch.stack([part.jacobian for part in found]).sum(0), whole.jacobian)
        for own, other in zip(
            found[0].origin, whole.origin, strict=True
        ):  # the first one compares with labels
            assert torch.equal(own, other)
        assert torch.equal(found[0].noise, whole.noise)
        busy = sum(bool(part.jacobian.any()) for part in found)
        assert busy >= min(size, 2), "all of it by one process"

    def test_labels_of_a_batch_are_averaged(self, observers: Any) -> None:
        """What a filter with `reduction: batch_mean` gets."""
        (fast, n), (slow, _) = (batch_mean(one.measure(self.choices["everything"])) for one in observers)
        assert n == 2
        assert fast.origin is not None
        assert slow.origin is not None
        labels = fast.origin.kind >= 0
        assert int(labels.sum()) == 1 + 4 + 6
        others = slow.origin.kind >= 0
        for found, expected in zip(fast[:3], slow[:3], strict=True):
            assert_close(found[labels], expected[others])

    @pytest.mark.parametrize("choice", ["energies", "forces", "virials", "everything"])
    def test_the_loss_and_its_gradient_are_those_of_the_potential(self, observers: Any, choice: str) -> None:
        """What a gradient optimizer gets."""
        found = []
        for observer in observers:
            loss = observer.loss(self.choices[choice])
            gradient = torch.autograd.grad(loss, observer.parameters, materialize_grads=True)
            found.append((loss.detach(), torch.cat([g.reshape(-1) for g in gradient])))
        for fast, slow in zip(*found, strict=True):
            assert_close(fast, slow)

    def test_predictions_are_the_same_kept_or_not(self, observers: Any) -> None:
        """What early stopping and errors of all labels are made of."""
        fast, slow = observers
        kept = GraphStore(slow.model, slow.store.structures[:2], 1e9, additional=slow.store.structures[2:])
        assert (len(kept.kept), len(slow.store.kept)) == (3, 0)
        for index in range(3):
            for own, other in zip(kept.predict(index), slow.store.predict(index), strict=True):
                torch.testing.assert_close(own, other, rtol=0.0, atol=0.0)
            assert_close(fast.store.predict(index).forces, kept.predict(index).forces)
