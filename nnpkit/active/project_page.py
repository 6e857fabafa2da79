"""A project as one HTML page with its figures inside."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.active.curve import curve
from nnpkit.active.explore_worker import read_candidates
from nnpkit.active.status import overhead, rounds_of
from nnpkit.active.store import Store
from nnpkit.analysis.plots import canvas, png
from nnpkit.analysis.predictions import predict_all
from nnpkit.analysis.report.page import Page, image, table, text
from nnpkit.analysis.report.view import view_beside, view_data
from nnpkit.data.formats.extxyz import read_extxyz
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.errors import NnpkitError

__all__ = ["write_report"]

_MANY = 1000  # points of which larger marks would cover each other


def write_report(folder: Path, path: Path, test: Sequence[Structure] = ()) -> Path:
    """Write the report of the project in `folder`, with the errors of every round on `test`; the path."""
    store = Store(folder)
    rounds = rounds_of(store)
    for number, errors in (curve(store, test) if test else {}).items():
        rounds[number]["test"] = {**errors, "n_train": rounds[number]["model"]["n_train"]}
    cost = overhead(store)
    page = Page(folder.absolute().name, _summary(store, cost))
    for title, note, draw in (
        ("Errors per round", "Root mean squared errors of the committees.", _draw_errors),
        ("Energies per round", "Energies of each round's labels, less the mean of the first data.", _draw_energies),
        ("What was uncertain", "Disagreement in the exploration runs of each round, and the bounds.", _draw_runs),
        ("Disagreement against true error", "Validation atoms of the last round.", _draw_calibration),
        ("Was the selection right?", "New labels against the committee that asked for them.", _draw_new_labels),
    ):  # fmt: skip
        page.section(title, _figure(draw, store, rounds), note=note)
    page.section(
        "Structures to look at", _view(store, path, rounds, test),
        note="All labels and the last committee: parity points that lead to their structures, the worst first.",
    )  # fmt: skip
    page.section("Rounds", _rounds_table(rounds))
    page.section("Decisions", _decisions(store))
    page.section("What failed", _failures(store))
    page.section("Costs", _costs(store, cost))
    page.write(path)
    return path


def _summary(store: Store, cost: dict[str, float]) -> str:
    done, bad = (
        store.query("SELECT COUNT(*) FROM labels WHERE state = ?", s)[0][0] for s in ("done", "quarantined")
    )
    ended = store.fact("ended") or "not ended"
    return f"{done} labels, {bad} in quarantine. {ended}. {cost['seconds'] / 60:.1f} minutes."


def _figure(draw: Callable[..., bool], store: Store, rounds: Sequence[dict[str, Any]]) -> str:
    """The figure as an image inside the page, empty if there is nothing to draw."""
    with canvas((8.0, 3.6)) as figure:
        try:
            drawn = draw(figure, store, rounds)
        except (OSError, KeyError, NnpkitError, ValueError):  # files of a step that is not done
            drawn = False
        return image(png(figure)) if drawn else ""


def _labelled_files(store: Store, rounds: Sequence[dict[str, Any]]) -> list[tuple[str, Path]]:
    """Files with the first data and the new ones of every round, by their names."""
    names = [(r["round"], store.folder / "rounds" / f"{r['round']:03d}" / "new-train.xyz") for r in rounds]
    return [("first", store.folder / "data" / "train.xyz"), *((f"round {n}", path) for n, path in names)]


def _view(store: Store, path: Path, rounds: Sequence[dict[str, Any]], test: Sequence[Structure]) -> str:
    """Write the interactive page beside the report; the link to it, empty without a committee."""
    rows = store.query("SELECT path FROM models ORDER BY round DESC LIMIT 1")
    if not rows:
        return ""
    try:
        model = load(store.folder / rows[0]["path"] / "committee.pt")
        parts = {name: read_extxyz(file) for name, file in _labelled_files(store, rounds) if file.exists()}
        parts |= {"test": list(test)} if test else {}
        predicted = {name: predict_all(model, structures) for name, structures in parts.items() if structures}
        return view_beside(path, f"{store.folder.name}: errors and structures", view_data(predicted))
    except (OSError, NnpkitError):  # files of a step that is not done
        return ""


def _draw_errors(figure: Any, store: Store, rounds: Sequence[dict[str, Any]]) -> bool:
    known = [r for r in rounds if "model" in r]
    axes = figure.subplots(1, 2)
    for ax, key, unit in zip(axes, ("energy_rmse", "force_rmse"), ("meV/atom", "meV/Å"), strict=True):
        for source, name in (("model", "validation set, which grows"), ("test", "test set")):
            given = [r[source] for r in known if r.get(source, {}).get(key) is not None]
            if given:
                ax.plot([e["n_train"] for e in given], [1e3 * e[key] for e in given], "o-", label=name)
                ax.legend(fontsize=8)
        ax.set(xlabel="training structures", ylabel=f"{key.split('_')[0]} RMSE, {unit}", ylim=(0, None))
    return bool(known)


def _draw_energies(figure: Any, store: Store, rounds: Sequence[dict[str, Any]]) -> bool:
    ax, reference, found = figure.subplots(), None, 0
    for name, path in _labelled_files(store, rounds):
        if not path.exists():
            continue
        energies = np.array([s.energy / s.n_atoms for s in read_extxyz(path) if s.energy is not None])
        reference = energies.mean() if reference is None else reference
        ax.hist(1e3 * (energies - reference), bins=30, histtype="step", label=f"{name} ({len(energies)})")
        found += len(energies)
    ax.set(xlabel="energy, meV/atom", ylabel="structures")
    ax.legend(fontsize=8)
    return found > 0


def _draw_runs(figure: Any, store: Store, rounds: Sequence[dict[str, Any]]) -> bool:
    ax, drawn = figure.subplots(), False
    for entry in rounds:
        reports = sorted(
            (store.folder / "rounds" / f"{entry['round']:03d}" / "explore").glob("run-*/exploration.json")
        )
        histories = [np.array(json.loads(p.read_text())["history"]).reshape(-1, 2)[:, 1] for p in reports]
        values = np.concatenate(histories) if histories else np.zeros(0)
        values = values[np.isfinite(values) & (values > 0)]
        if len(values):
            color = f"C{entry['round'] % 10}"
            ax.hist(values, bins=np.geomspace(values.min(), values.max() * 1.01, 40), histtype="step", color=color,
                    density=True, label=f"round {entry['round']}")  # fmt: skip
            for name in {"lower", "upper"} & set(
                entry.get("explore", ())
            ):  # not known while the round explores
                ax.axvline(entry["explore"][name], color=color, lw=0.8, ls=":")
            drawn = True
    ax.set(xlabel="largest force disagreement of a frame, eV/Å", ylabel="density", xscale="log")
    ax.legend(fontsize=8)
    return drawn


def _draw_calibration(figure: Any, store: Store, rounds: Sequence[dict[str, Any]]) -> bool:
    rows = store.query("SELECT path FROM models ORDER BY round DESC LIMIT 1")
    arrays = np.load(store.folder / rows[0]["path"] / "validation.npz", allow_pickle=False)
    spread, error = arrays["atom_force_std"], arrays["atom_force_error"]
    _scatter(
        figure.subplots(), spread, error, "disagreement of the forces on an atom, eV/Å", "force error, eV/Å"
    )
    return len(error) > 0


def _draw_new_labels(figure: Any, store: Store, rounds: Sequence[dict[str, Any]]) -> bool:
    """Expected energies are all that is kept of a candidate; its disagreement is in the decisions."""
    rows = store.query(
        "SELECT d.round, d.key, d.disagreement FROM decisions d JOIN labels l ON l.key = d.key "
        "WHERE d.verdict = 'taken' AND l.state = 'done' AND d.disagreement IS NOT NULL"
    )
    settings = store.query("SELECT DISTINCT settings FROM labels")[0][0]
    expected: dict[str, float] = {}
    for entry in rounds:
        for run in sorted((store.folder / "rounds" / f"{entry['round']:03d}" / "explore").glob("run-*")):
            expected |= (
                {c.key: c.energy for c in read_candidates(run)} if (run / "candidates.json").exists() else {}
            )
    points = []
    for row in rows:
        label = store.labels.read(settings, row["key"])
        if label is not None and label.energy is not None and row["key"] in expected:
            points.append((row["disagreement"], abs(label.energy - expected[row["key"]]) / label.n_atoms))
    if not points:
        return False
    x, y = np.array(points).T
    _scatter(figure.subplots(), x, y, "largest force disagreement, eV/Å", "energy error, eV/atom")
    return True


def _scatter(ax: Any, x: np.ndarray, y: np.ndarray, xlabel: str, ylabel: str) -> None:
    size = 3.0 if len(x) > _MANY else 7.0
    ax.loglog(np.maximum(x, 1e-6), np.maximum(y, 1e-6), ".", ms=size, alpha=0.5, mew=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)


def _rounds_table(rounds: Sequence[dict[str, Any]]) -> str:
    steps = ("begin", "train", "explore", "select", "label")
    rows = []
    for r in rounds:
        selected, labelled = r.get("select", {}), r.get("label", {})
        errors = [
            r.get(source, {}).get(key)
            for source in ("model", "test")
            for key in ("energy_rmse", "force_rmse")
        ]
        rows.append(
            [r["round"], r.get("model", {}).get("n_train"), *(None if e is None else 1e3 * e for e in errors),
             selected.get("fraction"), selected.get("taken"), labelled.get("done"), labelled.get("quarantined"),
             *(r["seconds"].get(s) for s in steps)]
        )  # fmt: skip
    head = ["round", "training structures", "E validation, meV/atom", "F validation, meV/Å", "E test", "F test",
            "uncertain", "taken", "labels", "failed", *(f"{s}, s" for s in steps)]  # fmt: skip
    return table(head, rows)


def _decisions(store: Store) -> str:
    counts = store.query(
        "SELECT round, verdict, COUNT(*) FROM decisions GROUP BY round, verdict ORDER BY round"
    )
    summary = table(["round", "number", "verdict"], [(c[0], c[2], c[1]) for c in counts], [-1])
    rows = store.query("SELECT round, candidate, verdict, reason FROM decisions ORDER BY round, candidate")
    every = table(
        ["round", "frame", "verdict", "reason"], [(r[0], r[1][6:], r[2], r[3]) for r in rows], [1, 2, 3]
    )
    return summary + f"<details><summary>every frame and its reason</summary>{every}</details>"


def _failures(store: Store) -> str:
    rows = store.query("SELECT key, attempts, reason FROM labels WHERE state = 'quarantined'")
    rows_of_runs = store.query("SELECT task, reason FROM runs WHERE state = 'failed'")
    if not rows and not rows_of_runs:
        return ""
    labels = (
        table(["attempts", "structure", "reason"], [(r[1], r[0][:12], r[2]) for r in rows], [1, 2])
        if rows
        else ""
    )
    tasks = table(["task", "reason"], [tuple(r) for r in rows_of_runs], [0, 1]) if rows_of_runs else ""
    return labels + tasks


def _costs(store: Store, cost: dict[str, float]) -> str:
    rows = store.query(
        "SELECT kind, COUNT(*), SUM(seconds), SUM(cpu_seconds) FROM runs WHERE state = 'done' GROUP BY kind"
    )
    kinds = table(
        ["tasks", "wall time, s", "CPU time, s", "kind"], [(r[1], r[2], r[3], r[0]) for r in rows], [-1]
    )
    rest = f"{cost['seconds']:.0f} s in all; {100 * cost['fraction']:.2f} % of it outside of any task."
    return kinds + text(rest)
