"""Sums of potentials as one model: a trained correction and the potential that it corrects, whatever either is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.charged_stages import ChargedStages

__all__ = ["StagesOfSum", "SumModel", "charged_part", "has_charges"]


def has_charges(spec: Mapping[str, Any]) -> bool:
    """Whether the model that `spec` describes, or a part of it, gives atoms charges."""
    return spec.get("kind") == "charged" or any(has_charges(part) for part in spec.get("parts", ()))


def charged_part(model: nn.Module) -> ChargedModel | None:
    """What gives atoms their charges, in a sum the part that does; None of a model without charges."""
    if isinstance(model, SumModel):
        return charged_part(model.correction) or charged_part(model.baseline)
    return model if isinstance(model, ChargedModel) else None


class StagesOfSum(nn.Module):
    """The sum of two models as stages, see `nnpkit.models.stages`; all of them end at the same one.

    A part with fewer stages than the other begins later. So the field of a stage is that of both parts side by side,
    or of the one that has begun, and the last stage of both gives the energies.

    Parameters
    ----------
    correction, baseline : nn.Module
        With the fields and stages of an `AtomicModel`.
    types : Tensor
        (T,) type of the baseline for each of the correction.
    """

    def __init__(self, correction: nn.Module, baseline: nn.Module, types: Tensor) -> None:
        nn.Module.__init__(self)
        self.correction, self.baseline = correction, baseline
        self.register_buffer("types", types)
        self._align([list(correction.fields), list(baseline.fields)])

    def _align(self, parts: Sequence[Sequence[tuple[str, int]]]) -> None:
        n = max(len(fields) for fields in parts)
        self.first_stages = [n - len(fields) for fields in parts]
        side_by_side: list[list[tuple[str, int]]] = [
            [fields[s - first] for fields, first in zip(parts, self.first_stages, strict=True) if s >= first]
            for s in range(n)
        ]
        self.fields = [("+".join(name for name, _ in f), sum(width for _, width in f)) for f in side_by_side]
        self.n_fields = n
        # columns of the correction in the field before each stage: those of the baseline come behind them
        first = self.first_stages[0]
        self.own_widths = [0] + [parts[0][s - first][1] if s >= first else 0 for s in range(n)]

    def stage(
        self,
        number: int,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        """Field `number` (n_local, width), at last atomic energies (n_local,); see `AtomicModel.stage`."""
        width = self.own_widths[number]
        found: list[Tensor] = []
        if number >= self.first_stages[0]:
            found.append(
                self.correction.stage(
                    number - self.first_stages[0], own[:, :width], theirs[:, :width], edge_vec, neighbor_type,
                    offsets, types,
                )
            )  # fmt: skip
        if number >= self.first_stages[1]:
            found.append(
                self.baseline.stage(
                    number - self.first_stages[1], own[:, width:], theirs[:, width:], edge_vec,
                    self.types.index_select(0, neighbor_type), offsets, self.types.index_select(0, types),
                )
            )  # fmt: skip
        if number == self.n_fields:
            return found[0] + found[1]
        return torch.cat(found, dim=1)

    def stages(
        self, edge_vec: Tensor, neighbor: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> list[Tensor]:
        """All fields, and at the end atomic energies (n_local,); see `nnpkit.models.stages.StagedModel.stages`."""
        values = [edge_vec.new_zeros((types.shape[0], 0))]
        for number in range(self.n_fields + 1):
            own = values[-1]
            theirs = own.index_select(0, neighbor)
            values.append(self.stage(number, own, theirs, edge_vec, neighbor_type, offsets, types))
        return values[1:]

    def last_features(
        self,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        """Raw features (n_local, D) of the correction."""
        width = self.own_widths[self.n_fields]
        return self.correction.last_features(
            own[:, :width], theirs[:, :width], edge_vec, neighbor_type, offsets, types
        )


class SumModel(StagesOfSum, AtomicModel):  # type: ignore[misc]
    """``E_i`` of a correction plus that of its baseline: delta learning (Tokita and Behler 2023, section V B).

    Elements, features and their ranges are those of the correction. A sum with charges is evaluated for whole
    structures (`nnpkit.models.sum_potential`), one with stages stage by stage, and others from edges alone.

    Parameters
    ----------
    correction, baseline : AtomicModel
        The baseline knows at least the elements of the correction; its weights are not trained. One of them may have
        charges.

    Raises
    ------
    InputError
        If the baseline lacks an element, or both have charges.
    """

    __jit_unused_properties__: ClassVar[Sequence[str]] = ["descriptor", "scaling", "networks"]

    def __init__(self, correction: AtomicModel, baseline: AtomicModel) -> None:
        if has_charges(correction.spec) and has_charges(baseline.spec):
            raise InputError(
                "both the potential and its baseline have charges: atoms would have two", where="data.baseline",
                expected="charges in one of them",
            )  # fmt: skip
        mixed = [model for model in (correction, baseline) if has_charges(model.spec)]
        if mixed and (correction.fields or baseline.fields):
            raise InputError(
                "a potential with charges and one with stages have no sum", where="data.baseline",
                expected="a baseline without stages",
            )  # fmt: skip
        if missing := [e for e in correction.elements if e not in baseline.elements]:
            raise InputError(
                f"the baseline knows {' '.join(baseline.elements)} but not {' '.join(missing)}", where="data.baseline",
                expected="a potential of the same elements",
            )  # fmt: skip
        types = torch.tensor([baseline.elements.index(e) for e in correction.elements])
        StagesOfSum.__init__(self, correction, baseline.requires_grad_(False), types)
        self.elements = list(correction.elements)
        self.cutoff = max(correction.cutoff, baseline.cutoff)
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

    def as_stages(self) -> StagesOfSum:
        """The same without what edges alone would give, for TorchScript; charges are a field, see `ChargedStages`."""
        parts = [_as_stages(part) for part in (self.correction, self.baseline)]
        return StagesOfSum(*parts, self.types)  # type: ignore[call-arg]

    @property
    def descriptor(self) -> nn.Module:  # type: ignore[override]
        """That of the correction."""
        return self.correction.descriptor

    @property
    def scaling(self) -> nn.Module:  # type: ignore[override]
        """That of the correction."""
        return self.correction.scaling

    @property
    def networks(self) -> nn.Module:  # type: ignore[override]
        """Those of the correction."""
        return self.correction.networks


def _as_stages(model: Any) -> nn.Module:
    if isinstance(model, SumModel):
        return model.as_stages() if model.fields or has_charges(model.spec) else model
    return ChargedStages(model) if isinstance(model, ChargedModel) else model
