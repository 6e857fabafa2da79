"""The section ``model.charges``: charges of atoms and their electrostatics, beside any family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from ase.data import atomic_numbers, covalent_radii
from pydantic import BeforeValidator, Field, model_validator

from nnpkit.errors import InputError
from nnpkit.families.shared_options import Activation, on_off
from nnpkit.models.electrostatics import ACCURACY
from nnpkit.section import NonNegative, Positive, PositiveInt, Section, refuse_unused

__all__ = ["Charges", "describe_charges"]

_LATENT_WIDTH = 0.7
_LATENT_SCALE = 0.1
"""e, of the outputs of networks: a charge counts in energies by the potential of all others, several volts."""
_SCREENED = 0.9  # of the cutoff: where screening ends by default


class ChargeNetwork(Section):
    """Networks from the features to charges or electronegativities, one per element."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1)] = Field(
        [15], description="Nodes of each hidden layer."
    )
    activation: Activation = Field("tanh", description="Activation function of the hidden layers.")


class Charges(Section):
    """Charges of the atoms and their electrostatic energy, added to the short-range energy of the family."""

    generation: Literal["third", "fourth", "latent"] = Field(
        description="`third`: each charge is a function of the surroundings, learnt from charges in the data. "
        "`fourth`: electronegativities are, and charges follow by equilibration over the whole structure; also "
        "learnt from charges. `latent`: charges are learnt from energies, forces and stresses alone.",
    )
    network: ChargeNetwork = Field(ChargeNetwork(), description="Networks of the charges.")
    channels: PositiveInt = Field(
        1,
        description="`latent` only: independent charges of each atom, whose electrostatic energies are added. With "
        "more than one there are no charges to show.",
    )
    widths: Positive | dict[str, NonNegative] | None = Field(
        None,
        description="Widths of Gaussian charges, Å, of all or of each element; 0 for point charges. By default "
        "covalent radii for `fourth`, points for `third`, 0.7 for `latent`.",
    )
    screening: Annotated[
        Literal["auto", "off"] | Positive | Annotated[list[NonNegative], Field(min_length=2, max_length=2)],
        BeforeValidator(on_off),
    ] = Field(
        "auto",
        description="Distance, Å, up to which the interaction of two charges is screened and left to the short-range "
        "part, or where screening begins and ends. `auto`: 0.9 of the cutoff, `off` for `latent`.",
    )
    hardness: dict[str, Positive] | None = Field(
        None,
        description="`fourth` only: hardness of each element, eV/e², where training begins. By default 5, or "
        "those under which the charges of the training data are most probable, if that says much more of them.",
    )
    trained_hardness: bool = Field(
        True, description="`fourth` only: whether the hardness is trained or stays as given."
    )
    refined: bool | None = Field(
        None,
        description="`third` and `fourth`: whether charges go on learning, from their labels, together with energies "
        "and forces. By default where the descriptor is trained, which would change them anyway.",
    )
    passes: PositiveInt = Field(
        20,
        description="`third` and `fourth`: passes over the charges of the training data, before energies are learnt. "
        "They take the optimizer of the training; those that suit the charges of the validation data best are kept.",
    )

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Charges:
        latent, fourth = self.generation == "latent", self.generation == "fourth"
        default = type(self).model_fields
        refuse_unused([
            (self.channels != 1, not latent, "channels", f"the charges of {self.generation} have labels"),
            (self.hardness is not None, not fourth, "hardness", "only fourth has one"),
            (not self.trained_hardness, not fourth, "trained_hardness", "only fourth has one"),
            (self.refined is not None, latent, "refined", "latent charges learn with energies"),
            (self.passes != default["passes"].default, latent, "passes", "latent charges learn with energies"),
        ])  # fmt: skip
        widths = [self.widths] if isinstance(self.widths, float) else list((self.widths or {}).values())
        if fourth and 0.0 in widths:
            raise ValueError("widths of fourth must be positive: point charges have no own energy")
        if isinstance(self.screening, list) and not self.screening[0] < self.screening[1]:
            raise ValueError("screening must begin before it ends")
        return self


def describe_charges(
    settings: Charges,
    spec: Mapping[str, Any],
    elements: Sequence[str],
    cutoff: float,
    trained_descriptor: bool = False,
) -> dict[str, Any]:
    """Description of a model with charges, from `spec`, that of its short-range part.

    Raises
    ------
    InputError
        If an element lacks a width or a hardness, the screening is longer than the cutoff (Å), or charges are to stay
        as they are on a `trained_descriptor`.
    """
    fourth, latent = settings.generation == "fourth", settings.generation == "latent"
    given = settings.screening
    screening: list[float] | None = given if isinstance(given, list) else None
    if given == "auto":
        screening = None if latent else [0.0, _SCREENED * cutoff]
    elif isinstance(given, float):
        screening = [0.0, given]
    if screening and screening[1] > cutoff:
        raise InputError(
            f"screening up to {screening[1]:g} Å, the cutoff is {cutoff:g} Å", where="model.charges.screening",
            expected="less than the cutoff, beyond which the short-range part replaces nothing",
        )  # fmt: skip
    refined = trained_descriptor if settings.refined is None else settings.refined
    if trained_descriptor and not refined:
        raise InputError(
            f"the descriptor of a {spec['kind']} is trained, and charges change with it", where="model.charges.refined",
            expected="true", hint="a family with a fixed descriptor (acsf, chebyshev) leaves charges as they are",
        )  # fmt: skip
    widths = settings.widths
    if widths is None:
        usual = {e: float(covalent_radii[atomic_numbers[e]]) for e in elements}
        widths = usual if fourth else dict.fromkeys(elements, _LATENT_WIDTH if latent else 0.0)
    elif not isinstance(widths, dict):
        widths = dict.fromkeys(elements, widths)
    hardness = settings.hardness or {}
    for name, table, needed in (("widths", widths, True), ("hardness", hardness, bool(hardness))):
        if missing := [e for e in elements if needed and e not in table]:
            raise InputError(f"no {name} of {missing[0]}", where=f"model.charges.{name}")
    network = settings.network
    one = {"hidden": network.hidden, "activations": [network.activation] * len(network.hidden) + ["linear"]}
    charges = {
        "generation": settings.generation,
        "networks": {e: one for e in elements},
        "channels": settings.channels,
        "scale": _LATENT_SCALE if latent else 1.0,
        "widths": {e: float(widths[e]) for e in elements},
        "screening": screening,
        "charge_input": fourth,
        "accuracy": ACCURACY,
        "trained": latent or refined,
    }
    return {**spec, "kind": "charged", "family": spec["kind"], "charges": charges}
