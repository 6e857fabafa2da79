"""The families of models by name: ours, and those of other packages under the entry points ``nnpkit.families``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnpkit.registry import Registry

if TYPE_CHECKING:
    from nnpkit.families.contract import Family
    from nnpkit.families.shared_settings import ModelSettings

__all__ = ["DEFAULT_FAMILY", "FAMILIES", "family_of", "function_names", "kind_of_section", "model_settings"]

DEFAULT_FAMILY = "cluster_expansion"
"""Of a section ``model`` without ``kind``, unless its settings are those of symmetry functions."""

FAMILIES: Registry[Family] = Registry(
    "family of models",
    "nnpkit.families",
    {
        "acsf": "nnpkit.families.acsf.family:ACSF",
        "chebyshev": "nnpkit.families.chebyshev.family:CHEBYSHEV",
        "cluster_expansion": "nnpkit.families.cluster_expansion.family:CLUSTER_EXPANSION",
        "deep_potential": "nnpkit.families.deep_potential.family:DEEP_POTENTIAL",
        "nep": "nnpkit.families.cluster_expansion.family:NEP",
    },
)

_SETTINGS = {  # of our own families, which need not be imported for them
    "acsf": "nnpkit.families.acsf.settings:AcsfModel",
    "chebyshev": "nnpkit.families.chebyshev.settings:ChebyshevModel",
    "cluster_expansion": "nnpkit.families.cluster_expansion.settings:ClusterExpansionModel",
    "deep_potential": "nnpkit.families.deep_potential.settings:DeepPotentialModel",
    "nep": "nnpkit.families.cluster_expansion.settings:NepModel",
}


def model_settings() -> list[type[ModelSettings]]:
    """What the section ``model`` of the YAML may be, one class for each family, that of the default one first."""
    found = []
    for name in FAMILIES:
        module, _, attribute = _SETTINGS.get(name, "").partition(":")
        found.append(getattr(import_module(module), attribute) if module else FAMILIES.get(name).settings)
    return found


def kind_of_section(section: Mapping[str, Any]) -> str:
    """Kind of a section ``model``, as it is given or by its other settings.

    Without ``kind`` it is the default family, or symmetry functions if these know more of the settings.
    """
    if "kind" in section:
        return str(section["kind"])
    known = {settings.model_fields["kind"].default: settings for settings in model_settings()}
    given = section.get("descriptor")
    named = set(given) if isinstance(given, Mapping) else set()

    def unknown(kind: str) -> int:
        fields = known[kind].model_fields
        own: Any = fields["descriptor"].annotation
        return len(set(section) - set(fields)) + len(named - set(own.model_fields))

    return min((DEFAULT_FAMILY, "acsf"), key=unknown)


def family_of(spec: Mapping[str, Any]) -> Family:
    """Family of the model that `spec` describes; of a corrected potential, that of the correction.

    Of a potential with charges it is the family of its short-range part, with charges.

    Raises
    ------
    InputError
        If there is no such family here.
    """
    if spec["kind"] == "total":
        return family_of(spec["parts"][0])
    if spec["kind"] == "charged":
        from nnpkit.families.charged import ChargedFamily

        return ChargedFamily(FAMILIES.get(spec["family"]))
    return FAMILIES.get(spec["kind"])


def function_names(spec: Mapping[str, Any], elements: Sequence[str]) -> dict[str, list[str]]:
    """Functions of each element in words, in the order of its features; empty where there are none to name.

    A potential of a family that is not installed here can be used, and its features have no names.
    """
    kind = str(spec.get("kind"))
    if kind == "total":
        return function_names(spec["parts"][0], elements)
    kind = str(spec["family"]) if kind == "charged" else kind
    return FAMILIES.get(kind).functions(spec) if kind in FAMILIES else {element: [] for element in elements}
