"""One page on a search: the front of accuracy and cost, what was chosen, and the time of each training."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import yaml

from nnpkit.analysis.figures import front_figure
from nnpkit.analysis.report.page import Page, image, table

__all__ = ["write_tuning_page"]


def write_tuning_page(path: Path, found: Mapping[str, Any]) -> None:
    """Write `found`, the content of ``tune.json``, as HTML."""
    goal, chosen = found["goal"], found["chosen"]
    rows = {row["name"]: row for row in found["rows"]}
    asked = (
        f"best within {goal['budget']:g} µs per atom and step" if goal["budget"] is not None
        else f"cheapest with an error of {goal['target']:g}"
    )  # fmt: skip
    measured = found["measured"]
    page = Page(
        "Accuracy against cost",
        f"{asked}; {goal['seconds']:.0f} s of training; costs in LAMMPS, {goal['precision']}, one core "
        f"({measured['processor']}), {measured['atoms']} atoms; nnpkit {measured['version']}",
    )
    if chosen is None:
        page.say("No candidate reaches what was asked for.")
    else:
        best = rows[chosen]
        page.tiles(
            {
                "chosen": chosen, "µs per atom and step": f"{best['us_per_atom_step']:.2f}",
                "validation error": f"{best['rounds'][-1]['error']:.4f}",
                "s of training": f"{best['rounds'][-1]['seconds']:.0f}",
            }
        )  # fmt: skip
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows.values():
        if row["us_per_atom_step"] is not None and row["rounds"][-1]["error"]:
            points.setdefault(row["kind"], []).append((row["us_per_atom_step"], row["rounds"][-1]["error"]))
    if points:
        caption = "Each point after its last training: those that left early have learnt for a shorter time."
        page.section("Front", image(front_figure(points, "Validation error (RMSE)"), caption))
    page.section("Candidates", table(_HEAD, [_cells(row, found) for row in rows.values()], words=(0, -1)))
    if chosen is not None:
        words = yaml.safe_dump({"model": rows[chosen]["model"]}, sort_keys=False)
        page.section("Settings", f"<pre>{escape(words)}</pre>", note="chosen.yaml has all of them.")
    page.write(path)


_HEAD = [
    "model", "µs/atom/step", "validation force RMSE, eV/Å", "validation energy RMSE, meV/atom",
    "s of the trainings", "front", "left because",
]  # fmt: skip


def _cells(row: Mapping[str, Any], found: Mapping[str, Any]) -> list[object]:
    """What the table says of a candidate."""
    last = row["rounds"][-1] if row["rounds"] else {}
    errors = last.get("validation") or {}
    energy = errors.get("energy_rmse")
    return [
        row["name"], row["us_per_atom_step"], errors.get("force_rmse"), None if energy is None else 1e3 * energy,
        ", ".join(f"{r['seconds']:.0f}" for r in row["rounds"]), "yes" if row["name"] in found["front"] else "",
        row["left"] or ("chosen" if row["name"] == found["chosen"] else ""),
    ]  # fmt: skip
