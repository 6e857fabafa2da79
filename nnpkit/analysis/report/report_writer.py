"""The validation report of a training run: one HTML page with everything inside, and the same numbers as JSON.

Its parts are those that Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), section VI, ask for. A part that cannot
be made is left out, and the report says which and why.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nnpkit._version import __version__
from nnpkit.analysis.predictions import predict_all
from nnpkit.analysis.report.page import Page, cell, image, table, text
from nnpkit.analysis.report.report_contents import Options, Report, RunContents, short_name
from nnpkit.analysis.report.report_schema import ReportData
from nnpkit.analysis.report.view import view_beside, view_data
from nnpkit.files import atomic_write
from nnpkit.models.short_range import wall_ends

__all__ = ["write_report"]


def write_report(
    run: RunContents,
    path: str | Path,
    options: Options | None = None,
    progress: Callable[[str], None] | None = None,
) -> ReportData:
    """Write the report of `run` to `path`, and its numbers to a JSON file of the same name beside it.

    Parameters
    ----------
    run : RunContents
        What there is.
    path : path
        HTML file.
    options : Options, optional
        What else to look at.
    progress : callable, optional
        Told what is done next.

    Returns
    -------
    ReportData
        The numbers.

    Raises
    ------
    InputError
        If the other potential or a crystal that was named cannot be used.
    """
    from nnpkit.analysis.report import error_sections, physics_sections

    path, began = Path(path), time.monotonic()
    options, say = options or Options(), progress or (lambda words: None)
    now = datetime.now(timezone.utc)
    subtitle = f"Validation report of a training run, nnpkit {__version__}, {now:%Y-%m-%d %H:%M} UTC"
    data = ReportData(
        created=now.isoformat(timespec="seconds"), run=run.name, status=run.status, notes=list(run.notes),
        versions={"nnpkit": __version__}, training=dict(run.settings) or None,
    )  # fmt: skip
    report = Report(run, options, Page(run.name, subtitle), data)
    if run.model is not None:
        for part, structures in run.splits.items():
            if structures:
                say(f"predicting {len(structures)} {part} structures")
                report.predictions[part] = predict_all(run.model, structures, groups=run.groups.get(part))
    if run.splits and not run.splits.get("test"):
        report.note(
            "There is no test set: "
            + (
                "errors are those of the validation data, which chose the best epoch."
                if run.splits.get("validation")
                else "errors are those of the training data, which the potential has seen."
            )
        )
    steps: list[tuple[str, Callable[[Report], None]]] = [
        ("model", _model_card), ("data", _data_card), ("curves", _curves), *error_sections.SECTIONS,
        *physics_sections.SECTIONS,
    ]  # fmt: skip
    for name, section in steps:
        say(name)
        section(report)
    if report.predictions:
        content = view_data(report.predictions, error_sections.energy_shift(report))
        report.page.section(
            "Structures to look at", view_beside(path, f"{run.name}: errors and structures", content),
            note="Parity points that lead to their structures in three dimensions, the worst first: a page of its own, "
            "which needs no network.",
        )  # fmt: skip
    _head(report)
    data.seconds = round(time.monotonic() - began, 2)
    report.page.write(path)
    checked = ReportData.model_validate(_finite(data.model_dump(mode="json")))
    with atomic_write(path.with_suffix(".json")) as stream:
        json.dump(checked.model_dump(mode="json"), stream, indent=1, allow_nan=False)
        stream.write("\n")
    return checked


def _finite(value: Any) -> Any:
    """The value with NaN and infinities as None: JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0.0 else value


def _head(report: Report) -> None:
    """Warnings and the numbers most people look for first; written last, when they are known."""
    run, page, status = report.run, report.page, report.run.status
    if not status.complete:
        planned = f" of {status.epochs_planned}" if status.epochs_planned is not None else ""
        done = f"{status.epochs_done}{planned} epochs" if status.epochs_done is not None else "no epoch"
        page.say(
            f"This run is not finished ({done} done{f', ended by {status.ended}' if status.ended else ''}). The report "
            "is partial: it shows the best potential until now, as far as there is one."
        )
    for words in report.data.notes:
        page.say(words)
    tiles: dict[str, object] = {}
    errors = report.data.errors.get(report.judge)
    if errors is not None:
        for name, value, scale, unit in (
            ("energy RMSE", errors.energy_rmse, 1e3, "meV/atom"), ("force RMSE", errors.force_rmse, 1e3, "meV/Å"),
            ("stress RMSE", errors.stress_rmse, 1.0, "GPa"),
        ):  # fmt: skip
            if value is not None:
                tiles[f"{name}, {report.judge}"] = f"{value * scale:.3g} {unit}"
    if run.model is not None:
        tiles["weights"] = f"{run.model.metadata['n_parameters']:,}".replace(",", " ")
        tiles["cutoff"] = f"{run.model.cutoff:g} Å"
    if run.statistics:
        tiles["training structures"] = run.statistics["train"]["n_structures"]
    if tiles:
        page.tiles(tiles)


def _model_card(report: Report) -> None:
    """What the potential is, what it was made of, and where it must not be trusted."""
    model = report.run.model
    if model is None:
        return
    metadata = {
        k: v for k, v in model.metadata.items() if k not in ("feature_ranges", "tabulation", "members")
    }
    report.data.model = metadata
    spec = metadata.get("spec") or {}
    training = report.run.settings.get("training") or {}
    networks = {e: " - ".join(map(str, n["hidden"])) for e, n in (spec.get("networks") or {}).items()}
    functions = [f["center"] for f in spec.get("functions") or ()]
    ranges = (report.run.statistics.get("train") or {}).get("energy_per_atom")
    rows: list[tuple[str, object]] = [
        ("Kind", f"committee of {model.n_members}" if model.n_members > 1 else metadata["kind"]),
        ("Elements", " ".join(model.elements)),
        ("Cutoff", f"{model.cutoff:g} Å"),
        (
            "Features",
            ", ".join(f"{functions.count(e)} of {e}" for e in model.elements) if functions else None,
        ),
        ("Hidden layers", ", ".join(f"{e}: {layers}" for e, layers in networks.items()) or None),
        ("Weights", metadata["n_parameters"]),
        ("Reference energies", _pairs(spec.get("reference_energies"), "eV")),
        ("Repulsion below", _pairs(wall_ends(spec.get("wall")), "Å")),
        ("Beside the networks", ", ".join(spec.get("terms") or {}) or None),
        ("Baseline", (metadata.get("baseline") or {}).get("name")),
        ("Optimizer", (training.get("optimizer") or {}).get("kind")),
        ("Schedule", (training.get("schedule") or {}).get("kind")),
        ("Seed", report.run.settings.get("seed")),
        ("Epoch of the potential", report.run.status.best_epoch),
        ("Training data, SHA-256", metadata.get("data_sha256")),
        ("Written", metadata.get("created")),
        ("Versions", ", ".join(f"{k} {v}" for k, v in (metadata.get("versions") or {}).items())),
    ]
    known = "Use it for structures like those of the data card"
    if ranges:
        known += f", with energies between {ranges['min']:.3f} and {ranges['max']:.3f} eV/atom"
    words = (
        f"{known}. It knows no elements but {' '.join(model.elements)}, no interaction beyond its cutoff, and nothing "
        "of charges or spins. Features outside the range of the training data mean extrapolation."
    )
    report.page.section(
        "Model card", table(["", ""], [row for row in rows if row[1] is not None], [0, 1]), text(words)
    )


def _pairs(values: Mapping[str, float] | None, unit: str) -> str | None:
    return ", ".join(f"{k} {v:.4g} {unit}" for k, v in values.items()) if values else None


def _data_card(report: Report) -> None:
    """What the data are."""
    statistics, files = report.run.statistics, report.run.data_files
    if not statistics:
        return
    report.data.data = {"statistics": dict(statistics), **files}
    parts = list(statistics)

    def span(values: Mapping[str, float] | None, digits: int = 3) -> str | None:
        return None if values is None else f"{values['min']:.{digits}f} … {values['max']:.{digits}f}"

    def row(title: str, value: Callable[[Mapping[str, Any]], object]) -> tuple[object, ...]:
        return (title, *(value(statistics[part]) for part in parts))

    def counts(kind: str, names: Sequence[str], title: str) -> list[tuple[object, ...]]:
        return [(title.format(n), *(statistics[part][kind].get(n, 0) for part in parts)) for n in names]

    elements = list(dict.fromkeys(e for part in parts for e in statistics[part]["elements"]))
    rows = [
        row("Structures", lambda s: s["n_structures"]),
        row("of them periodic", lambda s: s["n_periodic"]),
        row("Atoms", lambda s: s["n_atoms"]),
        row("Atoms per structure", lambda s: span(s["atoms_per_structure"], 0)),
        *counts("elements", elements, "{} atoms"),
        *counts("labels", ["energy", "forces", "stress"], "with {}"),
        row("Energy, eV/atom", lambda s: span(s["energy_per_atom"])),
        row("RMS force component, eV/Å", lambda s: (s["forces"] or {}).get("component_rms")),
        row("Largest force, eV/Å", lambda s: (s["forces"] or {}).get("vector_max")),
        row("Pressure, GPa", lambda s: span(s["pressure"])),
        row("Density, g/cm³", lambda s: span(s["density"])),
    ]
    shortest = statistics["train"]["min_distance"]
    distances = table(
        ["Pair", "Shortest distance, Å", "Structure"],
        [(p, round(d["distance"], 3), short_name(d["structure"])) for p, d in shortest.items()], [0, 2],
    )  # fmt: skip
    suspicious = files.get("suspicious") or []
    found = table(
        ["Structure", "Suspicious"],
        [(short_name(f["structure"]), f["message"]) for f in suspicious[:30]],
        [0, 1],
    )
    sources = [
        f"{part}: {', '.join(map(str, names))}" for part, names in (files.get("files") or {}).items() if names
    ]
    report.page.section(
        "Data card", text("; ".join(sources)) if sources else "", table(["", *parts], rows, [0]), distances,
        f"<h3>Suspicious frames: {len(suspicious)}</h3>{found}" if suspicious else "",
    )  # fmt: skip


def _curves(report: Report) -> None:
    """Errors over the epochs."""
    from nnpkit.analysis.figures import curves_figure

    report.data.curves = [dict(line) for line in report.run.curves]
    figure = curves_figure(report.run.curves)
    if figure is not None:
        last = report.run.curves[-1]
        caption = (
            f"{last['epoch']} epochs, {cell(last.get('updates'))} updates, {cell(last.get('seconds'))} s."
        )
        report.page.section("Training curves", image(figure, caption))
