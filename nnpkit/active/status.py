"""How far a project is: one table."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from nnpkit.active.store import Store

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["overhead", "rounds_of", "status_table"]


def rounds_of(store: Store) -> list[dict[str, Any]]:
    """What is known of every round: results and seconds of its steps."""
    rounds: dict[int, dict[str, Any]] = {}
    for row in store.query("SELECT * FROM steps ORDER BY round"):
        entry = rounds.setdefault(row["round"], {"round": row["round"], "seconds": {}, "running": None})
        if row["state"] == "done":
            entry[row["step"]] = json.loads(row["detail"])
            entry["seconds"][row["step"]] = row["ended"] - row["began"]
        else:
            entry["running"] = row["step"]
    for row in store.query("SELECT * FROM models ORDER BY round"):
        if row["round"] in rounds:
            rounds[row["round"]]["model"] = {**json.loads(row["errors"]), "n_train": row["n_train"]}
    return [rounds[k] for k in sorted(rounds)]


def overhead(store: Store) -> dict[str, float]:
    """Wall time, s, of all sessions, the part of it in which a task ran, and what is left as a fraction."""
    sessions = [(s["begin"], s["end"] or time.time()) for s in store.fact("sessions") or []]
    total = sum(end - begin for begin, end in sessions)
    spans = sorted(
        (row["time"] - row["seconds"], row["time"]) for row in store.query("SELECT time, seconds FROM runs")
    )
    busy, reached = 0.0, 0.0
    for begin, end in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return {"seconds": total, "busy": busy, "fraction": max(0.0, total - busy) / total if total else 0.0}


def _number(value: Any, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def status_table(store: Store) -> Group:
    """Rounds, labels, errors and what runs now."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    table = Table(
        title=str(store.folder), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for name in ("round", "data", "E", "F", "bounds", "uncertain", "taken", "labels", "failed", "min", "now"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in rounds_of(store):
        model, explored = entry.get("model", {}), entry.get("explore", {})
        selected, labelled = entry.get("select", {}), entry.get("label", {})
        energy, force = model.get("energy_rmse"), model.get("force_rmse")
        bounds = f"{explored['lower']:.2g}-{explored['upper']:.2g}" if explored else ""
        fraction = selected.get("fraction")
        table.add_row(
            str(entry["round"]), _number(model.get("n_train")), _number(energy and 1e3 * energy),
            _number(force and 1e3 * force), bounds, "" if fraction is None else f"{100 * fraction:.1f} %",
            _number(selected.get("taken")), _number(labelled.get("done")), _number(labelled.get("quarantined")),
            f"{sum(entry['seconds'].values()) / 60:.1f}", entry["running"] or "",
        )  # fmt: skip
    holder, ended, cost = store.lock.holder(), store.fact("ended"), overhead(store)
    done, bad = (
        store.query("SELECT COUNT(*) FROM labels WHERE state = ?", state)[0][0]
        for state in ("done", "quarantined")
    )
    state = f"driven by process {holder.get('pid')} on {holder.get('host')}" if holder else "nobody drives it"
    lines = [
        f"{done} labels, {bad} in quarantine; {state}" + (f"; ended: {ended}" if ended and not holder else "")
    ]
    lines.append(
        f"{cost['seconds'] / 60:.1f} minutes in all, {100 * cost['fraction']:.2f} % of them outside of tasks"
    )
    return Group(table, *lines)
