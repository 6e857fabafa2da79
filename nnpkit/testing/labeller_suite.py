"""What the loop of active learning expects of a labeller: inherit `LabellerSuite`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnpkit.active.labellers.reference_calculation import Limits, ReferenceCalculator, compute_label
from nnpkit.data.structure import Structure
from nnpkit.testing.trial_structures import central_difference

__all__ = ["LabellerSuite"]


class LabellerSuite:
    """Tests of a `ReferenceCalculator`; subclasses define the fixtures ``labeller`` and ``structure``."""

    limits = Limits(net_force=10.0)
    """Of the labels: what binds atoms to a place has forces that do not add up to zero."""

    @pytest.fixture
    def labeller(self) -> ReferenceCalculator:
        """The labeller."""
        raise pytest.UsageError("a suite needs a labeller")

    @pytest.fixture
    def structure(self) -> Structure:
        """A small structure that it can label quickly, off its minimum."""
        raise pytest.UsageError("a suite needs a structure")

    def label(self, labeller: ReferenceCalculator, structure: Structure, folder: Path) -> Structure:
        """The label of `structure`, computed in a folder of its own."""
        place = folder / str(len(list(folder.iterdir())))
        place.mkdir()
        return compute_label(labeller, structure, place, self.limits, {})

    def test_a_label_is_complete(self, labeller: Any, structure: Structure, tmp_path: Path) -> None:
        """Energy and forces of the structure that was asked for, which stays as it was."""
        before = structure.positions.copy()
        label = self.label(labeller, structure, tmp_path)
        assert label.symbols == structure.symbols
        assert label.energy is not None
        assert label.forces is not None
        assert np.isfinite(label.energy)
        assert label.forces.shape == (structure.n_atoms, 3)
        np.testing.assert_array_equal(structure.positions, before)
        assert structure.energy is None

    def test_the_same_structure_has_the_same_label(
        self, labeller: Any, structure: Structure, tmp_path: Path
    ) -> None:
        """Labels are kept under the hash of the structure and of the identity."""
        first, second = (self.label(labeller, structure, tmp_path) for _ in range(2))
        assert first.energy == pytest.approx(second.energy, rel=1e-9, abs=1e-9)
        assert first.forces is not None
        assert second.forces is not None
        np.testing.assert_allclose(first.forces, second.forces, rtol=0.0, atol=1e-6)

    def test_the_identity_can_be_written_and_read(self, labeller: Any) -> None:
        """It is the address of the labels."""
        assert json.loads(json.dumps(labeller.identity)) == labeller.identity
        assert labeller.identity["kind"]

    def test_forces_are_minus_the_gradient_of_the_energy(
        self, labeller: Any, structure: Structure, tmp_path: Path
    ) -> None:
        """Of one coordinate of the first atom, within what single steps of a program can say."""
        forces = self.label(labeller, structure, tmp_path).forces

        def energy(x: float) -> float:
            moved = structure.positions.copy()
            moved[0, 1] += x
            label = self.label(labeller, structure.replace(positions=moved), tmp_path)
            assert label.energy is not None
            return label.energy

        assert forces is not None
        assert -central_difference(energy, 0.02) == pytest.approx(float(forces[0, 1]), rel=1e-3, abs=1e-3)
