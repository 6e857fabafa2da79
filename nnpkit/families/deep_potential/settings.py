"""Settings of the Deep Potential: embedding descriptor and fitting networks."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from nnpkit.families.deep_potential.supported_sizes import LARGEST
from nnpkit.families.shared_settings import ModelSettings
from nnpkit.section import Positive, PositiveInt, Section

__all__ = ["DeepPotentialModel", "EmbeddingDescriptor", "FittingElement", "FittingNetworks"]

_BLOCK_SIZE = 4096
"""Keeps a small Deep Potential of one element together: in two blocks of 1389 weights forces were twice as wrong."""
SmoothActivation = Literal["tanh", "logistic", "softplus", "gaussian"]


class EmbeddingDescriptor(Section):
    """Descriptor of the Deep Potential (se_e2_a): networks turn each neighbour's distance into weights.

    There is no limit to the number of neighbours. Mean and standard deviation of the environment matrix and the
    mean numbers of neighbours come from the training data.
    """

    cutoff: Positive = Field(6.0, description="Radius of the neighbourhood, Å (`rcut` of DeePMD-kit).")
    smooth_from: Positive = Field(
        0.5, description="Radius, Å, from which a neighbour's weight 1/r is smoothly reduced (`rcut_smth`)."
    )
    cutoff_function: Literal["poly2", "poly3", "poly4", "cosine"] = Field(
        "poly2", description="How it is reduced to zero; `poly2` is DeePMD-kit's polynomial."
    )
    embedding: list[PositiveInt] | None = Field(
        None,
        min_length=1,
        description="Widths of the layers of the embedding networks (`neuron`); by default as wide as the data "
        "support, 25-25-25 or 16-16-16, and the former if `axis_neurons` are given.",
    )
    axis_neurons: PositiveInt | None = Field(
        None,
        description="How many of the last layer's nodes form the second factor of the descriptor; by default 16, 8 or "
        "4, as the data support, and 16 (or all) if `embedding` is given.",
    )
    type_one_side: bool = Field(
        True,
        description="One embedding network for each element of the neighbour; otherwise one for each pair of "
        "elements of centre and neighbour.",
    )
    timestep: bool = Field(
        False, description="Trainable factor on the nonlinear part of residual layers (`resnet_dt`)."
    )
    activation: SmoothActivation = Field("tanh", description="Activation function.")

    @model_validator(mode="after")
    def _consistent(self) -> EmbeddingDescriptor:
        if not self.smooth_from < self.cutoff:
            raise ValueError(f"smooth_from ({self.smooth_from:g}) is not below cutoff ({self.cutoff:g})")
        if self.axis_neurons is not None and self.axis_neurons > (
            last := (self.embedding or LARGEST.embedding)[-1]
        ):
            raise ValueError(
                f"axis_neurons ({self.axis_neurons}) is more than the last layer of embedding has ({last})"
            )
        return self


class FittingElement(Section):
    """What one element's fitting network has different from the others."""

    hidden: list[PositiveInt] | None = Field(None, description="Nodes of each hidden layer.")
    activation: SmoothActivation | None = Field(None, description="Activation function of the hidden layers.")


class FittingNetworks(Section):
    """Fitting networks, one per element: from the descriptor to the energy of an atom.

    Layers as wide as the one before, or twice as wide, are residual.
    """

    hidden: list[PositiveInt] | None = Field(
        None,
        min_length=1,
        description="Nodes of each hidden layer; by default three layers of 50, 25 or 20, as the data support.",
    )
    activation: SmoothActivation = Field("tanh", description="Activation function of the hidden layers.")
    timestep: bool = Field(
        True,
        description="Trainable factor on the nonlinear part of residual layers (`resnet_dt`); the published "
        "RLEKF network has none.",
    )
    initialisation: Literal["deepmd", "xavier"] = Field(
        "deepmd", description="How the first weights, also of the embedding networks, are drawn."
    )
    per_element: dict[str, FittingElement] = Field(
        default_factory=dict,
        description="Different settings for some elements, e.g. `{H: {hidden: [30, 30]}}`.",
    )


class DeepPotentialModel(ModelSettings):
    """A Deep Potential: embedding descriptor and one residual network per element."""

    kind: Literal["deep_potential"] = Field("deep_potential", description="Kind of the model.")
    descriptor: EmbeddingDescriptor = Field(EmbeddingDescriptor(), description="Embedding descriptor.")
    network: FittingNetworks = Field(FittingNetworks(), description="Fitting networks.")

    trained_descriptor: ClassVar[bool] = True

    @classmethod
    def complete(cls, training: dict[str, Any]) -> dict[str, Any]:
        """Let a Kalman filter learn from groups of force components, and forget nothing but what `lambda` does."""
        optimizer = training.get("optimizer") or {}
        if not isinstance(optimizer, dict) or optimizer.get("kind", "ekf") != "ekf":
            return training
        published = optimizer.get("preset") is not None or optimizer.get("observation_noise") == "blocks"
        if not published:
            optimizer = {"forgetting": 1.0, **optimizer}
            if optimizer.get("partition") not in ("global", "layer"):
                optimizer = {"block_size": _BLOCK_SIZE, **optimizer}
        training = {**training, "optimizer": optimizer}
        forces = training.get("force_training", "direct")
        forces = forces.get("kind", "direct") if isinstance(forces, dict) else forces
        if forces in ("subset", "taylor", "none", None) or "schedule" in training:
            return training
        return {**training, "schedule": {"kind": "groups"}}
