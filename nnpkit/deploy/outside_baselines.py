"""Baselines that no model file can hold: calculators of ASE, dispersion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nnpkit.data.calculators import ase_calculator
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE

__all__ = ["WHERE", "AseBaseline", "BaselineLabels", "D3Baseline", "outside_baseline"]


WHERE = "data.baseline"
"""Setting that an error about a baseline names."""


class BaselineLabels(NamedTuple):
    """What a baseline says about one structure."""

    energy: float  # eV
    forces: np.ndarray  # (N, 3) eV/Å
    stress: np.ndarray | None  # (3, 3) eV/Å³, ASE's sign; None if it has none


class AseBaseline:
    """A calculator of ASE by its name."""

    def __init__(self, calculator: str, arguments: Mapping[str, Any] | None = None) -> None:
        self.calculator = ase_calculator(calculator, arguments, WHERE)
        words = ", ".join(f"{k}={v}" for k, v in (arguments or {}).items())
        self.name = f"{calculator}({words})" if words else calculator
        self.spec = {"kind": "ase", "calculator": calculator, "arguments": dict(arguments or {})}

    def evaluate(self, structure: Structure) -> BaselineLabels:
        """Energy, forces and, of a structure that is periodic in three directions, the stress if there is one."""
        from ase import Atoms
        from ase.calculators.calculator import PropertyNotImplementedError

        atoms = Atoms(structure.symbols, structure.positions, cell=structure.cell, pbc=structure.pbc)
        atoms.calc = self.calculator
        try:
            energy, forces = float(atoms.get_potential_energy()), np.array(atoms.get_forces())
            stress = None
            if structure.pbc.all():
                try:
                    stress = np.array(atoms.get_stress(voigt=False))
                except (PropertyNotImplementedError, NotImplementedError):
                    stress = None
        except Exception as error:  # a calculator raises whatever its program makes it raise
            words = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(
                f"the baseline {self.name} fails for {structure.name or 'a structure'} ({words})", where=WHERE,
                hint="does it know these elements?",
            ) from None  # fmt: skip
        return BaselineLabels(energy, forces, stress)


class D3Baseline:
    """D3(BJ) dispersion of structures without periodic directions, by tad-dftd3.

    Friede et al., J. Chem. Phys. 161, 062501 (2024); Grimme, Ehrlich, Goerigk, J. Comput. Chem. 32, 1456 (2011).
    """

    def __init__(self, s8: float, a1: float, a2: float, s6: float = 1.0) -> None:
        try:
            import tad_dftd3  # noqa: F401
        except ImportError:
            raise InputError(
                "tad-dftd3 is not installed", where=WHERE, hint="install it with `pip install nnpkit[d3]`"
            ) from None
        self.parameters = {"s6": s6, "s8": s8, "a1": a1, "a2": a2}
        self.name = "D3(BJ) " + " ".join(f"{k}={v:g}" for k, v in self.parameters.items())
        self.spec = {"kind": "d3", **self.parameters}

    def evaluate(self, structure: Structure) -> BaselineLabels:
        """Energy and forces; InputError for a periodic structure."""
        import torch
        from ase.data import atomic_numbers
        from tad_dftd3 import dftd3

        if structure.pbc.any():
            raise InputError(
                f"tad-dftd3 knows no periodic structures such as {structure.name or 'this one'}", where=WHERE,
                hint="name an ASE calculator that computes D3: kind: ase",
            )  # fmt: skip
        numbers = torch.tensor([atomic_numbers[s] for s in structure.symbols])
        positions = torch.tensor(structure.positions / BOHR, dtype=torch.float64, requires_grad=True)
        parameters = {k: torch.tensor(v, dtype=torch.float64) for k, v in self.parameters.items()}
        with torch.enable_grad():
            energy = dftd3(numbers, positions, parameters).sum()
            (gradient,) = torch.autograd.grad(energy, positions)
        return BaselineLabels(float(energy.detach()) * HARTREE, -gradient.numpy() * HARTREE / BOHR, None)


_KINDS = {"ase": AseBaseline, "d3": D3Baseline}


def outside_baseline(spec: Mapping[str, Any]) -> AseBaseline | D3Baseline:
    """The baseline that `spec` describes: its ``kind`` and the arguments of the class.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    arguments = {key: value for key, value in spec.items() if key != "kind"}
    return _KINDS[spec["kind"]](**arguments)
