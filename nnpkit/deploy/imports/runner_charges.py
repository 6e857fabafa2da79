"""Charges of potentials of RuNNer and n2p2: third and fourth generation (``weightse.NNN.data``, ``hardness.NNN.data``).

Formulas of T. W. Ko, J. A. Finkler, S. Goedecker, J. Behler, Nat. Commun. 12, 398 (2021), as n2p2 evaluates them; where
n2p2 truncates its Ewald sum, ours is converged. The charge is the last input of a fourth-generation network, neither
centred nor scaled, and own energies of charges, hardness and electronegativities are no part of the energy. Charges of
a third-generation potential are points, and what is missing to the total charge is shared evenly.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers

from nnpkit.deploy.imports.runner_networks import activations, network, read_table
from nnpkit.errors import InputError
from nnpkit.families.acsf.runner_settings import RunnerSettings, parse_number
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.electrostatics import ACCURACY
from nnpkit.units import UnitSystem

__all__ = ["describe_charges", "load_charges"]


def describe_charges(
    settings: RunnerSettings, folder: Path, n_inputs: dict[str, int], units: UnitSystem
) -> dict[str, Any]:
    """What `ChargedModel` is told of the charges of a potential of generation 3 or 4.

    Raises
    ------
    InputError
        For an element without width or hardness, or settings that are not supported.
    """
    fourth = settings.generation == 4
    if "four_pi_epsilon" in settings and settings.number("four_pi_epsilon") != 1.0:
        raise InputError("four_pi_epsilon other than 1 is not supported", where=str(settings.path))
    if settings.number("conv_charge", 1.0) != 1.0:
        raise InputError("conv_charge other than 1 is not supported", where=str(settings.path))
    layers = {e: network(settings, folder, e, n, "electrostatic") for e, n in n_inputs.items()}
    return {
        "generation": "fourth" if fourth else "third",
        "networks": {
            e: {
                "hidden": [len(x.bias) for x in own[:-1]],
                "activations": activations(settings, e, len(own), "electrostatic"),
            }
            for e, own in layers.items()
        },
        "channels": 1,
        "scale": units.energy if fourth else 1.0,
        "widths": _widths(settings, list(n_inputs), units) if fourth else dict.fromkeys(n_inputs, 0.0),
        "screening": _screening(settings, units),
        "charge_input": fourth,
        "accuracy": ACCURACY,
    }


def _widths(settings: RunnerSettings, elements: list[str], units: UnitSystem) -> dict[str, float]:
    found = {}
    for line in settings.keywords.get("fixed_gausswidth", []):
        if len(line.words) < 2:
            raise InputError(
                "fixed_gausswidth", where=settings.where(line), expected="an element and a width"
            )
        found[line.words[0]] = parse_number(line.words[1], settings.where(line)) * units.length
    for element in elements:
        if not found.get(element, 0.0) > 0.0:
            raise InputError(
                f"no width of the charge of {element}", where=str(settings.path),
                expected=f"fixed_gausswidth {element} and a positive number",
            )  # fmt: skip
    return {element: found[element] for element in elements}


def _screening(settings: RunnerSettings, units: UnitSystem) -> list[float] | None:
    if "screen_electrostatics" not in settings:
        return None
    line = settings.keywords["screen_electrostatics"][0]
    where, words = settings.where(line), line.words
    if len(words) > 2 and words[2] != "c":
        raise InputError(f"screening of type {words[2]}", where=where, expected="c, a cosine")
    if len(words) < 2:
        raise InputError("screen_electrostatics", where=where, expected="an inner and an outer radius")
    inner, outer = (parse_number(word, where) for word in words[:2])
    if not 0.0 <= inner < outer:
        raise InputError(f"screening from {inner:g} to {outer:g}", where=where, expected="0 <= inner < outer")
    return [inner * units.length, outer * units.length]


def load_charges(model: ChargedModel, settings: RunnerSettings, folder: Path, units: UnitSystem) -> None:
    """Weights of the charge networks and hardnesses of the files in `folder`.

    Raises
    ------
    InputError
        For an element whose hardness is missing or not positive.
    """
    with torch.no_grad():
        for t, element in enumerate(model.elements):
            own = model.charge_networks[0].networks[t]
            values = network(settings, folder, element, own.n_inputs, "electrostatic")
            for layer, given in zip(own.layers, values, strict=True):
                layer.weight.copy_(torch.from_numpy(given.weight))
                layer.bias.copy_(torch.from_numpy(given.bias))
            if model.generation != "fourth":
                continue
            path = folder / f"hardness.{atomic_numbers[element]:03d}.data"
            hardness = parse_number(read_table(path)[0][0], str(path))
            if not hardness > 0.0:
                raise InputError(f"hardness {hardness:g} of {element}", where=str(path), expected="positive")
            model.hardness_root[t] = (hardness * units.energy) ** 0.5
