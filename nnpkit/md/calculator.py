"""A model as an ASE calculator."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from nnpkit.data.structure import Structure
from nnpkit.deploy.fused import fused_potential
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.errors import InputError
from nnpkit.kernels.native import NoKernelError
from nnpkit.models.potential import Potential

__all__ = ["NnpkitCalculator", "evaluator"]


class NnpkitCalculator(Calculator):
    """Energy, forces and stress of a model, the numbers that LAMMPS gets from it, and by the same kernel.

    Where there is no kernel, because it is not compiled (``nnpkit build``) or does not cover the model, PyTorch
    evaluates the model; a warning says so once.

    A potential with charges also gives ``charges`` (e) and, of structures that are not periodic, ``dipole`` (e Å, about
    the origin) for the total charge in ``atoms.info["total_charge"]`` or the sum of the initial charges.

    Of a committee they are the means, and ``results`` also holds ``energy_std`` (eV per atom), ``forces_std``
    ((N,) eV/Å) and, of one with charges, ``charges_std`` ((N,) e), defined in ``docs/uncertainty.md``.

    Copies and pickles, as ``copy.deepcopy``, ``multiprocessing`` and job queues make them, hold the bytes of the
    model and make its kernel anew where they arrive.

    Parameters
    ----------
    model : LoadedModel or path
        A loaded model, or anything that `nnpkit.deploy.load.load` takes.
    atoms_per_chunk : int
        Atoms evaluated at a time; bounds the memory.
    kernel : {'fused', 'torchscript'}
        What evaluates the model.
    precision : {'float64', 'mixed', 'float32'}
        Of the kernel; PyTorch always takes float64 here.
    device : str
        ``cpu``, or a GPU with its number, as ``cuda:0``, for the kernels of ``nnpkit build --cuda``. There chunks of
        many atoms pay.

    Raises
    ------
    InputError
        For an unknown kernel, precision or device, for a GPU that cannot evaluate the model, and when asked about a
        structure with an element that the model lacks.
    PropertyNotImplementedError
        When asked for the stress of a structure that is not periodic in three dimensions.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy", "free_energy", "energies", "forces", "stress", "charges", "dipole",
    ]  # fmt: skip

    def __init__(
        self,
        model: LoadedModel | str | Path,
        atoms_per_chunk: int = 128,
        *,
        kernel: str = "fused",
        precision: str = "float64",
        device: str = "cpu",
    ) -> None:
        super().__init__()
        if kernel not in ("fused", "torchscript"):
            raise InputError(f"kernel {kernel!r}", expected="fused or torchscript")
        if precision not in ("float64", "mixed", "float32"):
            raise InputError(f"precision {precision!r}", expected="float64, mixed or float32")
        if not re.fullmatch(r"cpu|cuda:\d{1,3}", device) or (device != "cpu" and kernel != "fused"):
            raise InputError(
                f"device {device!r} for kernel {kernel!r}", expected="cpu, or cuda:0 and so on for fused"
            )
        self._total_charge: float | None = None
        self.model = model if isinstance(model, LoadedModel) else load(model)
        self.atoms_per_chunk = atoms_per_chunk
        self._kernel, self._precision, self._device = kernel, precision, device
        self._prepare()

    def _prepare(self) -> None:
        fused = self._kernel == "fused"
        self._potential = evaluator(self.model, self._precision, self._device) if fused else None

    def __getstate__(self) -> dict[str, Any]:
        """All but the kernel, which is memory of this process."""
        return {name: value for name, value in self.__dict__.items() if name != "_potential"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the kernel again."""
        self.__dict__.update(state)
        self._prepare()

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last evaluation; the total charge in ``atoms.info`` is part of it."""
        changes = super().check_state(atoms, tol)
        if not changes and Structure.without_labels(atoms).total_charge != self._total_charge:
            changes = ["initial_charges"]
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Evaluate the model on `atoms`; all properties come from one evaluation."""
        super().calculate(atoms, properties, system_changes)
        structure = Structure.without_labels(self.atoms)
        self._total_charge = structure.total_charge
        result = self.model.predict(structure, self.atoms_per_chunk, potential=self._potential)
        self.results = {
            "energy": result.energy,
            "free_energy": result.energy,
            "energies": result.energies,
            "forces": result.forces,
        }
        if result.disagreement is not None:
            self.results["energy_std"] = result.disagreement.energy_std
            self.results["forces_std"] = result.disagreement.forces_std
            if result.disagreement.charges_std is not None:
                self.results["charges_std"] = result.disagreement.charges_std
        if result.stress is not None:
            self.results["stress"] = full_3x3_to_voigt_6_stress(result.stress)
        elif "stress" in properties:
            raise PropertyNotImplementedError("stress needs a structure that is periodic in three dimensions")
        for name in ("charges", "dipole"):
            value = getattr(result, name)
            if value is not None:
                self.results[name] = value
            elif name in properties:
                raise PropertyNotImplementedError(
                    f"{name}: this potential has no charges, or the structure is periodic and has no dipole"
                )


_said: set[str] = set()


def evaluator(model: LoadedModel, precision: str, device: str) -> Potential | None:
    """The kernel of a model; None, and a warning for each new reason, if the processor has none.

    Parameters
    ----------
    model : LoadedModel
        What is evaluated.
    precision, device : str
        As of `NnpkitCalculator`.

    Raises
    ------
    InputError
        If `device` is a GPU that has none.
    """
    try:
        return fused_potential(model, precision, None if device == "cpu" else device)
    except NoKernelError as reason:
        if device != "cpu":
            raise InputError(
                f"{device} cannot evaluate the model: {reason}",
                hint="build the kernels with `nnpkit build --cuda`, or leave the model to the processor: device='cpu'",
            ) from None
        if str(reason) not in _said:
            warnings.warn(f"PyTorch evaluates the model, several times slower: {reason}", stacklevel=3)
        _said.add(str(reason))
    return None
