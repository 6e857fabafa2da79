"""The family of Behler-Parrinello potentials: symmetry functions and a feed-forward network per element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnpkit.errors import InputError
from nnpkit.families.acsf.given_functions import describe_functions
from nnpkit.families.acsf.settings import AcsfModel
from nnpkit.families.acsf.suitable import unsuitable
from nnpkit.families.acsf.symmetry_functions import Acsf, SymmetryFunction
from nnpkit.families.contract import FixedDescriptorFamily, TrainingData
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import ElementNetworks

__all__ = ["ACSF"]


class AcsfFamily(FixedDescriptorFamily):
    """Symmetry functions."""

    kind = "acsf"
    settings = AcsfModel
    targets = frozenset({"runner"})

    def parts(self, spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
        """See `Family`; ``cutoff_kind``, ``cutoff_inner``, ``functions`` (each a mapping of `SymmetryFunction`)."""
        functions = [SymmetryFunction(**f) for f in spec["functions"]]
        for element in elements:
            if not any(f.center == element for f in functions):
                raise InputError(
                    f"element {element} has no symmetry functions", where="model.descriptor",
                    hint="add functions centred on it or let them be generated from the data",
                )  # fmt: skip
        descriptor = Acsf(elements, functions, spec["cutoff_kind"], spec.get("cutoff_inner", 0.0))
        return descriptor, self.networks(spec, elements, descriptor)

    def describe(self, settings: AcsfModel, data: TrainingData) -> tuple[dict[str, Any], list[str]]:
        """See `Family`."""
        return describe_functions(settings, data)

    def unsuitable(self, settings: AcsfModel, data: TrainingData, old: AtomicModel) -> str | None:
        """See `Family`."""
        return unsuitable(settings, data, old)

    def functions(self, spec: Mapping[str, Any]) -> dict[str, list[str]]:
        """See `Family`."""
        functions = [SymmetryFunction(**f) for f in spec["functions"]]
        return {element: [str(f) for f in functions if f.center == element] for element in spec["elements"]}


ACSF = AcsfFamily()
