"""The family of ænet potentials: a Chebyshev descriptor and a feed-forward network per element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnpkit.errors import InputError
from nnpkit.families.chebyshev.expansion import Chebyshev, species_weights
from nnpkit.families.chebyshev.settings import ChebyshevModel
from nnpkit.families.contract import FixedDescriptorFamily, TrainingData
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import ElementNetworks

__all__ = ["CHEBYSHEV"]


class ChebyshevFamily(FixedDescriptorFamily):
    """Chebyshev expansion of the distributions of distances and angles."""

    kind = "chebyshev"
    settings = ChebyshevModel

    def parts(self, spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
        """See `Family`; ``descriptor`` has the arguments of `Chebyshev`."""
        descriptor = Chebyshev(elements, **spec["descriptor"])
        return descriptor, self.networks(spec, elements, descriptor)

    def describe(self, settings: ChebyshevModel, data: TrainingData) -> tuple[dict[str, Any], list[str]]:
        """See `Family`."""
        d = settings.descriptor
        weights = species_weights(data.elements) if d.species_weights is None else d.species_weights
        if missing := sorted(set(data.elements) - set(weights)):
            raise InputError(
                f"no weight for {missing[0]}", where="model.descriptor.species_weights",
                expected=f"weights of {', '.join(data.elements)}",
            )  # fmt: skip
        spec = {
            "radial_order": d.radial_order, "radial_cutoff": d.radial_cutoff,
            "angular_order": d.angular_order, "angular_cutoff": d.angular_cutoff,
            "cutoff_kind": d.cutoff_function, "weights": {e: weights[e] for e in data.elements},
        }  # fmt: skip
        words = ", ".join(f"{e} {weights[e]:g}" for e in data.elements)
        report = [
            f"Chebyshev: radial order {d.radial_order} to {d.radial_cutoff:g} Å, angular order {d.angular_order} to "
            f"{d.angular_cutoff:g} Å"
        ]
        return {"descriptor": spec}, report + (
            [f"weights of the neighbours: {words}"] if len(data.elements) > 1 else []
        )


CHEBYSHEV = ChebyshevFamily()
