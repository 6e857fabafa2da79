"""What writing TorchScript needs, whatever the model: quiet, and a few atoms to try it on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from nnpkit.data.structure import Structure

__all__ = ["quiet_torchscript", "random_cluster"]


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
