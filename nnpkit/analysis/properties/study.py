"""Which properties are wanted, and whether they can be had of a structure."""

from __future__ import annotations

from collections.abc import Sequence

from nnpkit.analysis.phonons import has_phonopy
from nnpkit.analysis.properties.defects import require_element
from nnpkit.analysis.properties.moving_study import MOVING, require_long_runs
from nnpkit.analysis.properties.stacking import require_fcc
from nnpkit.analysis.properties.static_study import STATIC
from nnpkit.analysis.properties.study_options import Options
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.simulation_settings import Simulation

__all__ = ["require_possible", "wanted_properties"]


def wanted_properties(text: str) -> list[str]:
    """Names of properties in ``eos,elastic``, each once.

    Raises
    ------
    InputError
        If there is no such property.
    """
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = [name for name in names if name not in (*STATIC, *MOVING)]
    if unknown or not names:
        raise InputError(
            f"unknown property {(unknown or [''])[0]!r}",
            where="--what",
            expected=", ".join((*STATIC, *MOVING)),
        )
    return names


def require_possible(
    structure: Structure, names: Sequence[str], options: Options, settings: Simulation
) -> None:
    """Say before anything is computed what cannot be.

    Raises
    ------
    InputError
        For point defects of a compound, stacking faults of a crystal that is not fcc, phonons without phonopy, a
        ladder of one temperature, and simulations too short for what is asked.
    """
    for defect in {"vacancy", "interstitial"} & set(names):
        require_element(structure, defect)
    if "stacking" in names:
        require_fcc(structure)
    if "phonons" in names and not has_phonopy():
        raise InputError("phonopy is not installed", hint="install it with `pip install nnpkit[report]`")
    if "expansion" in names and len(options.temperatures) < 2:
        raise InputError("thermal expansion needs a ladder", where="--temperatures", expected="at least two")
    if "melting" in names and len(set(options.temperatures)) < 2:
        raise InputError(
            "a melting point is sought between two temperatures", where="--temperatures", expected="LOW,HIGH"
        )
    require_long_runs(names, settings)
