"""Baselines: what a potential is a correction to, subtracted from the labels and added back to every prediction.

Delta learning, Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), section V B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpkit.data.calculators import ase_calculator
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.errors import InputError
from nnpkit.measure.metrics import ErrorSums
from nnpkit.units import BOHR, HARTREE

__all__ = ["AseBaseline", "BaselineLabels", "D3Baseline", "ModelBaseline", "make_baseline", "subtract"]

WHERE = "data.baseline"
"""Setting that an error about a baseline names."""


class BaselineLabels(NamedTuple):
    """What a baseline says about one structure."""

    energy: float  # eV
    forces: np.ndarray  # (N, 3) eV/Å
    stress: np.ndarray | None  # (3, 3) eV/Å³, ASE's sign; None if it has none


class ModelBaseline:
    """Another potential, which becomes part of the exported file."""

    def __init__(self, file: str | Path) -> None:
        self.model: LoadedModel = load(file)
        if self.model.n_members > 1:
            raise InputError("a committee is no baseline", where=WHERE, expected="a single potential")
        if self.model.metadata.get("baseline"):
            raise InputError("the baseline is a correction itself", where=WHERE, expected="a whole potential")
        self.name = f"potential {Path(file).name} of {' '.join(self.model.elements)}"
        self.spec = {"kind": "model", "file": str(file)}

    def evaluate(self, structure: Structure) -> BaselineLabels:
        """Energy, forces and stress of one structure."""
        if missing := sorted(set(structure.symbols) - set(self.model.elements)):
            raise InputError(
                f"the baseline knows {' '.join(self.model.elements)} but not {' '.join(missing)}", where=WHERE,
                expected="a potential of the elements of the data",
            )  # fmt: skip
        found = self.model.predict(structure)
        return BaselineLabels(found.energy, found.forces, found.stress)


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


_KINDS = {"model": ModelBaseline, "ase": AseBaseline, "d3": D3Baseline}


def make_baseline(spec: Mapping[str, Any]) -> ModelBaseline | AseBaseline | D3Baseline:
    """The baseline that `spec` describes: its ``kind`` and the arguments of the class.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    arguments = {key: value for key, value in spec.items() if key != "kind"}
    return _KINDS[spec["kind"]](**arguments)


def subtract(
    structures: Sequence[Structure], baseline: ModelBaseline | AseBaseline | D3Baseline
) -> tuple[list[Structure], list[str]]:
    """Labels less what the baseline says, and what should be known about it.

    A stress label is dropped where the baseline has no stress.

    Raises
    ------
    InputError
        If the baseline does not know an element, or its forces look as if they were in other units than the labels.
    """
    rest, sums, dropped = [], ErrorSums(), 0
    before, after = 0.0, 0.0
    for s in structures:
        found = baseline.evaluate(s)
        sums.add(s, found.energy, found.forces, found.stress)
        changes: dict[str, Any] = {}
        if s.energy is not None:
            changes["energy"] = s.energy - found.energy
        if s.forces is not None:
            changes["forces"] = s.forces - found.forces
            before += float((s.forces**2).sum())
            after += float((changes["forces"] ** 2).sum())
        if s.stress is not None:
            changes["stress"] = None if found.stress is None else s.stress - found.stress
            dropped += found.stress is None
        rest.append(s.replace(**changes))
    for who, unit in (("labels", sums.force_unit()), ("baseline", sums.force_unit(of_predictions=True))):
        if unit is not None:
            raise InputError(
                f"the forces of the {who} look as if they were in {unit}, unlike those of the "
                f"{'baseline ' + baseline.name if who == 'labels' else 'labels'}", where=WHERE,
                expected="eV and Å of both",
            )  # fmt: skip
    notes = [f"labels are less the baseline {baseline.name}"]
    if before > 0.0:
        share = (after / before) ** 0.5
        notes.append(f"it leaves {100 * share:.0f} % of the forces (root mean square)")
        if share > 1.0:
            notes.append(
                "the baseline makes the forces larger: it may be of another kind of system or in other units"
            )
    if dropped:
        notes.append(f"{dropped} stress labels are not used: the baseline has no stress")
    return rest, notes
