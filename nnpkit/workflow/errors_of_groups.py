"""Errors of the test structures, and of every group, at the end of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from nnpkit.models.atomic_model import AtomicModel
from nnpkit.training.group_errors import groups_without, table_of_groups
from nnpkit.training.uncertainty import validation_report
from nnpkit.workflow.assemble import LoadedData
from nnpkit.workflow.data_sets import PARTS

__all__ = ["print_groups", "test_errors"]


def test_errors(models: Sequence[AtomicModel], data: LoadedData) -> dict[str, Any] | None:
    """Errors of the mean of `models` on the test structures; None without any."""
    test = data.splits.get("test")
    return validation_report(models, test, None, data.names(test))[0]["errors"] if test else None


def print_groups(summary: Mapping[str, Any], data: LoadedData, console: Console) -> None:
    """Print the errors of every group on the set that nothing was chosen by, and the groups it has nothing of."""
    name = next((part for part in reversed(PARTS) if summary.get(part)), None)
    if data.grouping is None or name is None:
        return
    learnt = {"groups": _counts(data)}
    table = table_of_groups(summary[name], f"{name} structures", None if name == "train" else learnt)
    if table is not None:
        console.print(table)
    for part in PARTS[1:]:
        if summary.get(part) and (without := groups_without(learnt, summary[part])):
            console.print(
                f"Warning: no {part} structure is of the group {', '.join(without)}: their errors are not known there",
                style="yellow", highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip


def _counts(data: LoadedData) -> dict[str, dict[str, int]]:
    """Number of training structures of each group."""
    names = data.names(data.train) or []
    return {name: {"n_structures": names.count(name)} for name in set(names)}
