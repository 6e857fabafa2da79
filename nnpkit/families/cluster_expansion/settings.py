"""Settings of the cluster expansion and of NEP."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from nnpkit.families.cluster_expansion.invariants import vanishes
from nnpkit.families.shared_settings import NetworkModel, Scaling
from nnpkit.section import Positive, PositiveInt, Section

__all__ = ["ClusterExpansionModel", "ExpansionDescriptor", "NepDescriptor", "NepModel", "NepNetworks"]

Degree = Annotated[int, Field(ge=1, le=6)]
Invariant = Annotated[list[Degree], Field(min_length=2, max_length=4)]
Functions = Annotated[int, Field(ge=1, le=20)]
_DEFAULT_INVARIANTS = [
    [1, 1],
    [2, 2],
    [3, 3],
    [4, 4],
    [1, 1, 2],
    [2, 2, 2],
    [1, 2, 3],
    [2, 2, 4],
    [1, 1, 2, 2],
]
_INITIAL_COVARIANCE = 0.1
"""Of standardised features: with 1, silicon had 0.067 instead of 0.061 eV/Å on validation structures after 65 s."""
_EPOCHS, _UPDATES = 16, 2000
_BLOCK_SIZE = 2600
"""Keeps the radial coefficients of two elements together with their networks; of more elements, blocks are the cheaper.

Li-Si-C had 0.29, 0.31 and 0.64 eV/Å on test frames after a minute of one core (three variants), in one block 0.63 and
1.27; an alloy of five metals learnt as much in less time. Two elements in two blocks learn faster, but worse in the
end: TiO2 0.120, not 0.115 eV/Å.
"""
_STANDARDISED = Scaling(kind="sigma", lower=0.0, upper=1.0)


class ExpansionDescriptor(Section):
    """Expansion of the neighbours in radial functions, which are trained, times spherical harmonics."""

    radial_cutoff: Positive | None = Field(
        None,
        description="Radius of the neighbourhood for distances, Å; by default 5 Å or, if that is more, twice the "
        "distance of nearest neighbours in the data, at most 8 Å.",
    )
    angular_cutoff: Positive | None = Field(
        None,
        description="Radius of the neighbourhood for angles, Å; by default 5 Å or, if that is more, 1.8 times the "
        "distance of nearest neighbours, at most the radius for distances.",
    )
    cutoff_function: Literal["cosine", "poly2", "poly3"] = Field(
        "cosine", description="How the radial functions go to zero at their cutoffs."
    )
    radial_channels: PositiveInt | None = Field(
        None,
        description="Trained radial functions of distances alone; by default 8, 6, 5 or 4, as the data support.",
    )
    radial_basis: Functions = Field(8, description="Fixed functions that they are combinations of.")
    angular_channels: PositiveInt | None = Field(
        None,
        description="Trained radial functions that spherical harmonics are multiplied with; by default as many.",
    )
    angular_basis: Functions = Field(8, description="Fixed functions that they are combinations of.")
    invariants: list[Invariant] = Field(
        _DEFAULT_INVARIANTS,
        min_length=1,
        description="Degrees l of the spherical harmonics that are coupled, two for three bodies, three for four, four "
        "for five, e.g. `[[1, 1], [2, 2], [2, 2, 2]]`; each is one feature of every angular channel.",
    )

    @model_validator(mode="after")
    def _invariants_differ(self) -> ExpansionDescriptor:
        if nothing := [degrees for degrees in self.invariants if vanishes(degrees)]:
            raise ValueError(f"the invariant {nothing[0]} is zero whatever the neighbours")
        kinds = [tuple(sorted(degrees)) for degrees in self.invariants]
        if twice := [list(kind) for kind in kinds if kinds.count(kind) > 1]:
            raise ValueError(f"the invariant {twice[0]} is there twice")
        return self


class _ExpansionModel(NetworkModel):
    """What both have in common."""

    scaling: Scaling = Field(_STANDARDISED, description="Scaling of the descriptor's values.")
    many_body_weight: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.2,
        description="Factor on scaled features of four bodies, its square on those of five: the smaller, the less a "
        "training makes of them without need. The trained weights take it back if the data ask for that.",
    )

    trained_descriptor: ClassVar[bool] = True
    fits_repulsion: ClassVar[bool] = True

    def longest_repulsion(self) -> float:
        """See `ModelSettings`: GPUMD has none beyond the cutoff for angles."""
        return min(super().longest_repulsion(), self.descriptor.angular_cutoff or math.inf)

    @classmethod
    def complete(cls, training: dict[str, Any]) -> dict[str, Any]:
        """Let a Kalman filter begin with weights that are small rather than unknown, and end when it has learnt.

        Of 171 silicon structures 16 epochs instead of 8 took energies of the other 43 from 5.8 to 5.1 meV/atom and left
        forces as they were (two seeds); of few structures an epoch is too short to count.
        """
        optimizer = training.get("optimizer") or {}
        if not isinstance(optimizer, dict) or optimizer.get("kind", "ekf") != "ekf":
            return training
        if optimizer.get("preset") is not None or optimizer.get("observation_noise") == "blocks":
            return training
        optimizer = {"initial_covariance": _INITIAL_COVARIANCE, **optimizer}
        if optimizer.get("partition") not in ("global", "layer"):
            optimizer = {"block_size": _BLOCK_SIZE, **optimizer}
        if not {"epochs", "time", "min_updates"} & set(training):
            training = {"epochs": _EPOCHS, "min_updates": _UPDATES, **training}
        return {**training, "optimizer": optimizer}


class ClusterExpansionModel(_ExpansionModel):
    """A cluster expansion with trained radial functions and one feed-forward network per element."""

    kind: Literal["cluster_expansion"] = Field("cluster_expansion", description="Kind of the model.")
    descriptor: ExpansionDescriptor = Field(ExpansionDescriptor(), description="Cluster expansion.")


class NepDescriptor(Section):
    """Descriptor of NEP4, by the names of `nep.in` of GPUMD (Song et al., Nat. Commun. 15, 10208 (2024))."""

    radial_cutoff: Positive = Field(6.0, description="Radius of the neighbourhood for distances, Å.")
    angular_cutoff: Positive = Field(5.0, description="Radius of the neighbourhood for angles, Å.")
    n_max_radial: Annotated[int, Field(ge=0, le=19)] = Field(
        6, description="Trained radial functions of distances alone, less one."
    )
    n_max_angular: Annotated[int, Field(ge=0, le=19)] = Field(
        6, description="Trained radial functions of the angular terms, less one."
    )
    basis_size_radial: Annotated[int, Field(ge=0, le=19)] = Field(
        8, description="Fixed functions that the former are combinations of, less one."
    )
    basis_size_angular: Annotated[int, Field(ge=0, le=19)] = Field(
        8, description="Fixed functions that the latter are combinations of, less one."
    )
    l_max: Annotated[int, Field(ge=1, le=6)] = Field(
        4, description="Highest degree of terms of three bodies."
    )
    four_body: bool = Field(True, description="The term of four bodies, three times l = 2.")
    five_body: bool = Field(False, description="The term of five bodies, four times l = 1.")

    @model_validator(mode="after")
    def _known_terms(self) -> NepDescriptor:
        if self.four_body and self.l_max < 2:
            raise ValueError("four_body needs l_max of 2 or more")
        if self.five_body and not self.four_body:
            raise ValueError("five_body comes with four_body in GPUMD")
        return self

    def invariants(self) -> list[list[int]]:
        """The degrees of each invariant in the order of GPUMD's descriptor."""
        lists = [[degree, degree] for degree in range(1, self.l_max + 1)]
        return lists + ([[2, 2, 2]] if self.four_body else []) + ([[1, 1, 1, 1]] if self.five_body else [])


class NepNetworks(Section):
    """Networks of NEP4: one hidden layer for each element, of as many nodes."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1, max_length=1)] = Field(
        [30], description="Nodes of the hidden layer (`neuron`)."
    )
    initialisation: Literal["xavier", "nguyen_widrow", "modified_xavier"] = Field(
        "xavier", description="How the first weights are drawn."
    )

    activation: ClassVar[str] = "tanh"
    per_element: ClassVar[dict[str, Any]] = {}


class NepModel(_ExpansionModel):
    """The form of NEP4, which GPUMD runs: a cluster expansion with its descriptor and networks."""

    kind: Literal["nep"] = Field("nep", description="Kind of the model.")
    descriptor: NepDescriptor = Field(NepDescriptor(), description="Descriptor of NEP4.")
    network: NepNetworks = Field(NepNetworks(), description="Networks.")  # type: ignore[assignment]
