"""Charges in the files of RuNNer and n2p2: what ``input.nn`` says of them. Formulas: `nnpkit.deploy.imports`."""

from __future__ import annotations

from collections.abc import Sequence

from nnpkit.errors import InputError
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.networks import ACTIVATIONS
from nnpkit.units import UnitSystem

__all__ = ["charge_lines", "require_expressible", "scale_of_charges"]

_PRECISION = "1.0E-8 1.0"
"""Of n2p2's Ewald sum: of forces, in atomic units, for charges up to one."""


def require_expressible(model: ChargedModel, where: str) -> None:
    """Refuse charges that the format has no words for.

    Raises
    ------
    InputError
        For latent charges, and Gaussian charges of the third generation.
    """
    if model.generation == "latent":
        raise InputError(
            "RuNNer's format cannot express latent charges",
            where=where,
            expected="the third or fourth generation",
        )
    if model.generation == "third" and bool((model.widths > 0.0).any()):
        raise InputError("RuNNer's third generation has point charges, not Gaussian ones", where=where)


def scale_of_charges(model: ChargedModel, units: UnitSystem) -> float:
    """What the output of a charge network is multiplied by: e, or electronegativities in `units`."""
    return model.charge_scale / (units.energy if model.generation == "fourth" else 1.0)


def charge_lines(
    model: ChargedModel,
    elements: Sequence[str],
    nodes: Sequence[int],
    activations: Sequence[str],
    units: UnitSystem,
) -> list[str]:
    """Lines of ``input.nn``, for networks with these hidden `nodes`."""
    fourth = model.generation == "fourth"
    lines = [
        f"nnp_generation {4 if fourth else 3}",
        "ewald_truncation_error_method 1",
        f"ewald_prec {_PRECISION}",
        f"global_hidden_layers_electrostatic {len(nodes)}",
        f"global_nodes_electrostatic {' '.join(map(str, nodes))}",
        f"global_activation_electrostatic {' '.join(ACTIVATIONS[a] for a in activations)}",
    ]
    if fourth:
        widths = dict(zip(model.elements, model.widths.tolist(), strict=True))
        lines += [f"fixed_gausswidth {e:2s} {widths[e] / units.length!r}" for e in elements]
    if model.screening:
        lines += ["screen_electrostatics " + " ".join(repr(r / units.length) for r in model.screening)]
    return lines
