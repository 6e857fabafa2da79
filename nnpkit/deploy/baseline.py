"""Baselines: what a potential is a correction to, subtracted from the labels and added back to every prediction.

Delta learning, Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), section V B.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.outside_baselines import WHERE, AseBaseline, BaselineLabels, D3Baseline, outside_baseline
from nnpkit.errors import InputError
from nnpkit.measure.metrics import ErrorSums

__all__ = ["ModelBaseline", "make_baseline", "subtract"]

_ONE_METHOD = 0.99
"""Correlation of forces from which a ratio is one of units. Between methods it is less, and the ratio their own:
forces of MgO by CHGNet are 1.8 times those by GFN1-xTB at a correlation of 0.98."""


class ModelBaseline:
    """Another potential, which becomes part of the exported file."""

    def __init__(self, file: str | Path) -> None:
        self.model: LoadedModel = load(file)
        if self.model.n_members > 1:
            raise InputError("a committee is no baseline", where=WHERE, expected="a single potential")
        if (missing := self.model.missing_baseline) is not None:
            raise InputError(
                f"the baseline is a correction to {missing['name']}, which its file does not hold", where=WHERE,
                expected="a whole potential",
            )  # fmt: skip
        self.name = f"potential {Path(file).name} of {' '.join(self.model.elements)}"
        self.spec = {"kind": "model", "file": str(file)}

    def evaluate(self, structure: Structure) -> BaselineLabels:
        """Energy, forces and stress of one structure."""
        if missing := sorted(set(structure.symbols) - set(self.model.elements)):
            raise InputError(
                f"the baseline knows {' '.join(self.model.elements)} but not {' '.join(missing)}", where=WHERE,
                expected="a potential of the elements of the data",
            )  # fmt: skip
        found = self.model.predict(structure)
        return BaselineLabels(found.energy, found.forces, found.stress)


def make_baseline(spec: Mapping[str, Any]) -> ModelBaseline | AseBaseline | D3Baseline:
    """The baseline that `spec` describes: its ``kind`` and the arguments of the class.

    Raises
    ------
    InputError
        If it cannot be made.
    """
    return ModelBaseline(spec["file"]) if spec["kind"] == "model" else outside_baseline(spec)


def subtract(
    structures: Sequence[Structure], baseline: ModelBaseline | AseBaseline | D3Baseline
) -> tuple[list[Structure], list[str]]:
    """Labels less what the baseline says, and what should be known about it.

    A stress label is dropped where the baseline has no stress.

    Raises
    ------
    InputError
        If the baseline does not know an element, or its forces look as if they were in other units than the labels.
    """
    rest, sums, dropped = [], ErrorSums(), 0
    before, after = 0.0, 0.0
    for s in structures:
        found = baseline.evaluate(s)
        sums.add(s, found.energy, found.forces, found.stress)
        changes: dict[str, Any] = {}
        if s.energy is not None:
            changes["energy"] = s.energy - found.energy
        if s.forces is not None:
            changes["forces"] = s.forces - found.forces
            before += float((s.forces**2).sum())
            after += float((changes["forces"] ** 2).sum())
        if s.stress is not None:
            changes["stress"] = None if found.stress is None else s.stress - found.stress
            dropped += found.stress is None
        rest.append(s.replace(**changes))
    for who, unit in (
        ("labels", sums.force_unit(correlation=_ONE_METHOD)),
        ("baseline", sums.force_unit(of_predictions=True, correlation=_ONE_METHOD)),
    ):
        if unit is not None:
            raise InputError(
                f"the forces of the {who} look as if they were in {unit}, unlike those of the "
                f"{'baseline ' + baseline.name if who == 'labels' else 'labels'}", where=WHERE,
                expected="eV and Å of both",
            )  # fmt: skip
    notes = [f"labels are less the baseline {baseline.name}"]
    if before > 0.0:
        share = (after / before) ** 0.5
        notes.append(f"it leaves {100 * share:.0f} % of the forces (root mean square)")
        if share > 1.0:
            notes.append(
                "the baseline makes the forces larger: it may be of another kind of system or in other units"
            )
    if dropped:
        notes.append(f"{dropped} stress labels are not used: the baseline has no stress")
    return rest, notes
