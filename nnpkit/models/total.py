"""A trained correction and the potential it corrects, as one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel

__all__ = ["TotalModel"]


class TotalModel(AtomicModel):
    """``E_i`` of a correction plus that of its baseline: delta learning (Tokita and Behler 2023, section V B).

    Elements, features and their ranges are those of the correction.

    Parameters
    ----------
    correction, baseline : AtomicModel
        The baseline knows at least the elements of the correction; its weights are not trained.

    Raises
    ------
    InputError
        If the baseline lacks an element.
    """

    __jit_unused_properties__: ClassVar[Sequence[str]] = ["descriptor", "scaling", "networks"]

    def __init__(self, correction: AtomicModel, baseline: AtomicModel) -> None:
        nn.Module.__init__(self)
        if correction.spec["kind"] == "charged" or baseline.spec["kind"] == "charged":
            raise InputError(
                "a potential with charges is neither a baseline nor a correction to a potential", where="data.baseline",
                expected="a baseline of kind ase or d3, or none",
            )  # fmt: skip
        if correction.fields or baseline.fields:
            raise InputError(
                "a model with stages cannot be corrected or be a correction", where="data.baseline",
                hint="train it on the labels as they are: baseline none",
            )  # fmt: skip
        if missing := [e for e in correction.elements if e not in baseline.elements]:
            raise InputError(
                f"the baseline knows {' '.join(baseline.elements)} but not {' '.join(missing)}", where="data.baseline",
                expected="a potential of the same elements",
            )  # fmt: skip
        self.elements = list(correction.elements)
        self.cutoff = max(correction.cutoff, baseline.cutoff)
        self.correction = correction
        self.baseline = baseline.requires_grad_(False)
        self.register_buffer("types", torch.tensor([baseline.elements.index(e) for e in self.elements]))
        self.spec = {"kind": "total", "elements": self.elements, "parts": [correction.spec, baseline.spec]}

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Atomic energies (n_local,) in eV, float64; see `AtomicModel.forward`."""
        other = self.types.index_select(0, types)
        neighbors = self.types.index_select(0, neighbor_type)
        own = self.correction(edge_vec, neighbor_type, offsets, types)
        return own + self.baseline(edge_vec, neighbors, offsets, other)

    def features(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Raw descriptor values (n_local, D) of the correction."""
        return self.correction.features(edge_vec, neighbor_type, offsets, types)

    @property
    def descriptor(self) -> nn.Module:  # type: ignore[override]
        """That of the correction."""
        return self.correction.descriptor

    @property
    def scaling(self) -> nn.Module:  # type: ignore[override]
        """That of the correction."""
        return self.correction.scaling
