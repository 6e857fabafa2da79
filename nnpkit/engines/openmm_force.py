"""A model as a force of OpenMM 8.4 or newer, by ``openmm.PythonForce``: the processor's kernel, on any platform.

    system.addForce(openmm_force(nnpkit.load("model.pt"), ["O", "H", "H", ...], periodic=True))

A barostat that asks for energies (``MonteCarloBarostat``) works. Positions travel between OpenMM's platform and the
kernel each step.

Reference: OpenMM's documentation of ``PythonForce``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openmm
from openmm import unit

from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.engines.evaluation import BatchEvaluator
from nnpkit.errors import InputError

__all__ = ["openmm_force"]

_KJ_PER_MOL = 96.48533212331
"""kJ/mol per eV (CODATA 2018)."""


class _Computation:
    """What OpenMM calls with its state; pickled with the bytes of the model when a system is serialised."""

    def __init__(
        self, model: LoadedModel, symbols: Sequence[str], periodic: bool, options: dict[str, Any]
    ) -> None:
        self.model, self.symbols, self.periodic, self.options = model, list(symbols), periodic, options
        self._evaluator = BatchEvaluator(model, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_evaluator"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._evaluator = BatchEvaluator(self.model, **self.options)

    def __call__(self, state: Any) -> tuple[float, np.ndarray]:
        """Energy (kJ/mol) and forces (N, 3; kJ/mol/nm)."""
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        cell = np.zeros((3, 3))
        if self.periodic:
            cell = np.asarray(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom))
        structure = Structure(
            self.symbols, np.asarray(positions), cell=cell, pbc=np.full(3, self.periodic), name="OpenMM"
        )
        found = self._evaluator.predict([structure])
        return float(found.energy[0]) * _KJ_PER_MOL, found.forces.numpy() * (10.0 * _KJ_PER_MOL)


def openmm_force(
    model: LoadedModel, symbols: Sequence[str], periodic: bool, particles: Sequence[int] = (), **options: Any
) -> openmm.PythonForce:
    """A force that evaluates `model` for the particles of a system.

    Parameters
    ----------
    model : LoadedModel
        A potential or committee, of which it is the mean.
    symbols : sequence of str
        Element of each particle that the force is for, in their order.
    periodic : bool
        Whether the box of the system counts, in all three directions.
    particles : sequence of int, optional
        Which particles, by default all.
    **options
        Of `nnpkit.engines.evaluation.BatchEvaluator`.

    Raises
    ------
    InputError
        For an element that the model lacks, for numbers that do not fit, or an OpenMM without ``PythonForce``.
    """
    if not hasattr(openmm, "PythonForce"):
        raise InputError(f"OpenMM {openmm.__version__} has no PythonForce", expected="8.4 or newer")
    if unknown := sorted(set(symbols) - set(model.elements)):
        raise InputError(f"element {unknown[0]} is unknown to the model", where=model.where)
    if len(particles) not in (0, len(symbols)):
        raise InputError(
            f"{len(particles)} particles and {len(symbols)} symbols", expected="one symbol for each"
        )
    force = openmm.PythonForce(_Computation(model, symbols, periodic, options))
    if len(particles):
        force.setParticles(list(particles))
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force
