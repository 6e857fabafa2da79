"""Errors of the groups of structures, as tables and lines for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Column, Table

from nnpkit.measure.metrics import METRICS

__all__ = ["COLUMNS", "groups_without", "ordered_groups", "table_of_groups"]

COLUMNS = ("energy_rmse", "energy_mae", "force_rmse", "force_mae", "stress_rmse")
"""Errors of groups in the report."""
_PRINTED = ("energy_rmse", "force_rmse", "stress_rmse")  # what 80 columns have room for
_SHOWN = 20


def ordered_groups(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of groups, those with the largest errors of forces (without forces, of energies) first."""

    def error(name: str) -> tuple[float, float]:
        return tuple(-(groups[name][key] or 0.0) for key in ("force_rmse", "energy_rmse"))  # type: ignore[return-value]

    return sorted(groups, key=lambda name: (*error(name), name))


def table_of_groups(
    errors: Mapping[str, Any], of: str, learnt: Mapping[str, Any] | None = None
) -> Table | None:
    """Table of the errors of every group, the worst first, at most twenty; None without groups.

    Parameters
    ----------
    errors : mapping
        A summary of `nnpkit.measure.metrics.ErrorSums`.
    of : str
        What the structures are, for the title.
    learnt : mapping, optional
        The same summary of the training structures, of which the numbers are shown.
    """
    groups = errors.get("groups")
    if not groups:
        return None
    known = None if learnt is None else learnt.get("groups") or {}
    columns = [key for key in _PRINTED if any(part[key] is not None for part in groups.values())]
    caption = None if len(groups) <= _SHOWN else f"and {len(groups) - _SHOWN} groups more"
    table = Table(
        Column("group", overflow="fold"),
        title=f"Errors by group, {of}",
        title_justify="left",
        caption=caption,
    )
    for title in [
        "structures",
        *(["in training"] if known is not None else []),
        *(METRICS[c] for c in columns),
    ]:
        table.add_column(title, justify="right")
    for name in ordered_groups(groups)[:_SHOWN]:
        part = groups[name]
        number = [] if known is None else [str((known.get(name) or {}).get("n_structures", 0))]
        values = ("-" if part[key] is None else f"{part[key]:.3g}" for key in columns)
        table.add_row(name, str(part["n_structures"]), *number, *values)
    return table


def groups_without(learnt: Mapping[str, Any], errors: Mapping[str, Any]) -> list[str]:
    """Groups of training structures of which `errors` has no structure."""
    return sorted(set(learnt.get("groups") or {}) - set(errors.get("groups") or {}))
