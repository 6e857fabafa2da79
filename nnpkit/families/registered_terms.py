"""Kinds of terms by name: ours, and those of other packages under the entry points ``nnpkit.terms``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from nnpkit.registry import Registry
from nnpkit.section import Section

if TYPE_CHECKING:
    from nnpkit.families.term_contract import TermKind
    from nnpkit.families.training_data import TrainingData
    from nnpkit.models.terms import Term

__all__ = ["TERMS", "TermSettings", "describe_terms", "make_terms", "term_settings"]

TERMS: Registry[TermKind] = Registry(
    "term", "nnpkit.terms", {"dispersion": "nnpkit.families.dispersion.dispersion_term:DISPERSION"}
)

_SETTINGS = {  # of our own, which need not be imported for them
    "dispersion": "nnpkit.families.dispersion.dispersion_settings:DispersionSettings",
}


class TermSettings(Section):
    """What a model has beside its networks: energies without weights, which networks need not learn."""


def term_settings() -> type[TermSettings]:
    """The section ``model.terms``: a key for each kind, null for none."""
    fields: dict[str, Any] = {}
    for name in TERMS:
        module, _, attribute = _SETTINGS.get(name, "").partition(":")
        own: Any = getattr(import_module(module), attribute) if module else TERMS.get(name).settings
        words = (own.__doc__ or name).strip().split("\n")[0]
        fields[name] = (own | None, Field(None, description=f"{words.rstrip('.')}; null for none."))
    made: type[TermSettings] = create_model(
        "TermSettings", __base__=TermSettings, __doc__=TermSettings.__doc__, **fields
    )
    return made


def describe_terms(settings: TermSettings, data: TrainingData) -> dict[str, dict[str, Any]]:
    """What the description of a model says of its terms, by kind.

    Raises
    ------
    InputError
        If one of them does not suit the data.
    """
    given = {kind: getattr(settings, kind) for kind in type(settings).model_fields}
    return {kind: TERMS.get(kind).describe(own, data) for kind, own in given.items() if own is not None}


def make_terms(spec: Mapping[str, Any], elements: Sequence[str]) -> Term | None:
    """All terms of the model that `spec` describes, its repulsion of pairs among them; None if it has none.

    Raises
    ------
    InputError
        If it has one of a kind that is not installed here.
    """
    from nnpkit.models.short_range import make_wall
    from nnpkit.models.terms import SumOfTerms

    repulsion = make_wall(elements, spec.get("wall"))
    others = [
        TERMS.get(kind, "model.terms").make(description, elements)
        for kind, description in (spec.get("terms") or {}).items()
    ]
    return SumOfTerms(repulsion, others) if others else repulsion
