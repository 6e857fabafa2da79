"""Sections of the validation report about errors on labelled structures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnpkit.analysis import figures
from nnpkit.analysis.extrapolation import extrapolation_table
from nnpkit.analysis.fisher import model_spectrum
from nnpkit.analysis.force_errors import error_map
from nnpkit.analysis.predictions import (
    Outlier,
    Predictions,
    contradictions,
    errors_summary,
    outliers,
    predict_all,
)
from nnpkit.analysis.report.page import image, link_to_file, table, text
from nnpkit.analysis.report.report_contents import Report, guarded, short_name
from nnpkit.analysis.report.report_schema import (
    Calibration,
    Contradiction,
    Errors,
    Extrapolation,
    Feature,
    Fisher,
    ForceErrors,
)
from nnpkit.analysis.report.report_schema import Outlier as OutlierData
from nnpkit.data.formats.extxyz import extxyz_text
from nnpkit.data.structure import Structure
from nnpkit.measure.metrics import METRICS
from nnpkit.training.group_errors import COLUMNS, ordered_groups
from nnpkit.training.uncertainty import rank_correlation

__all__ = ["SECTIONS", "energy_shift"]

_LARGE = 3.0
"""Errors beyond this multiple of the root mean square error are large."""
_FISHER_STRUCTURES = 24
_LOOKED_AT = 300
"""Structures whose features are computed for the table of extrapolation, evenly spaced."""


def _errors(report: Report) -> None:
    """Table of errors, and parity of energies, forces and stress."""
    for part, predictions in report.predictions.items():
        report.data.errors[part] = Errors(**errors_summary(predictions))
    if not report.predictions:
        return
    titles = {
        **METRICS,
        "energy_max": "largest energy error, eV/atom",
        "force_max": "largest force error, eV/Å",
    }
    columns = {part: e.model_dump() for part, e in report.data.errors.items()}
    rows = [(title, *(c[key] for c in columns.values())) for key, title in titles.items()]
    report.page.section(
        "Errors", table(["", *columns], rows, [0]),
        note="RMSE: root mean square error, MAE: mean absolute error. The force RMSE is over components; over "
        "vectors it is larger by the square root of three. Both definitions are called force RMSE in the literature.",
    )  # fmt: skip
    _groups(report)
    shift = energy_shift(report)
    energy = {
        n: (p.energy - shift(p.structures), p.energy_label - shift(p.structures))
        for n, p in report.predictions.items()
    }
    parts = [
        ("Energies", figures.parity_figure(energy, "energy", "eV/atom", 1000.0),
         "Energies less the reference energies of the elements, so that compositions do not spread them."),
        ("Forces", figures.parity_figure(
            {n: (p.forces, p.force_label) for n, p in report.predictions.items()}, "force component", "eV/Å", 1000.0),
         "Colour: how many labels are there, on a logarithmic scale."),
        ("Stress", figures.parity_figure(
            {n: (p.stress, p.stress_label) for n, p in report.predictions.items()}, "stress", "GPa"),
         "All nine components, positive where the structure wants to shrink."),
    ]  # fmt: skip
    shown = [f"<h3>{title}</h3>{image(png, about)}" for title, png, about in parts if png is not None]
    report.page.section("Parity", *shown)


def _groups(report: Report) -> None:
    """Table of the errors of every group, in every part the worst first."""
    keys = [k for k in COLUMNS if any(getattr(e, k) is not None for e in report.data.errors.values())]
    rows = []
    for part, errors in report.data.errors.items():
        groups = {name: own.model_dump() for name, own in errors.groups.items()}
        for name in ordered_groups(groups):
            rows.append((part, name, groups[name]["n_structures"], *(groups[name][key] for key in keys)))
    if rows:
        head = ["Part", "Group", METRICS["n_structures"], *(METRICS[key] for key in keys)]
        report.page.section(
            "Errors by group", table(head, rows, [0, 1]),
            note="Groups as data.groups names them. The errors of all structures together are those of the largest "
            "groups; what they hide is here.",
        )  # fmt: skip


def energy_shift(report: Report) -> Callable[[list[Structure]], np.ndarray]:
    """Sum of the reference energies per atom of each structure."""
    assert report.run.model is not None
    metadata = (report.run.model.metadata.get("members") or [report.run.model.metadata])[0]
    known = metadata["spec"].get("reference_energies") or {}

    def shift(structures: list[Structure]) -> np.ndarray:
        sums = [sum(known.get(e, 0.0) * n for e, n in s.composition.items()) / s.n_atoms for s in structures]
        return np.array(sums)

    return shift


def _force_maps(report: Report) -> None:
    """Errors of the direction of forces."""
    maps = {}
    for part, p in report.predictions.items():
        found, summary = error_map(p.forces, p.force_label)
        if summary["n_atoms"]:
            report.data.force_errors[part] = ForceErrors(**summary)
            maps[part] = (found, summary)
    figure = figures.error_map_figure(maps)
    if figure is None:
        return
    rows = [
        (n, s["magnitude_mae"], s["magnitude_rmse"], s["direction_median"], s["direction_median_large"])
        for n, (_, s) in maps.items()
    ]
    head = ["", "magnitude MAE, eV/Å", "magnitude RMSE, eV/Å", "direction, median °", "of the larger half, °"]
    report.page.section(
        "Directions of forces", image(figure), table(head, rows, [0]),
        note="How often the direction of a force is off by an angle, by the size of the force. Small forces may point "
        "anywhere without harm; large ones may not.",
    )  # fmt: skip


def _outliers(report: Report) -> None:
    """Structures with the largest errors, by name, each to be saved and looked at."""
    parts = []
    for kind, unit, scale, into in (
        ("energy", "meV/atom", 1e3, report.data.energy_outliers), ("force", "eV/Å", 1.0, report.data.force_outliers)
    ):  # fmt: skip
        found: list[tuple[str, Outlier]] = []
        for part, predictions in report.predictions.items():
            found += [(part, o) for o in outliers(predictions, kind, report.options.outliers)]
        rows = []
        for part, o in found:
            into.append(OutlierData(structure=o.name, part=part, error=o.error, ratio=o.ratio, atom=o.atom))
            row = (_saved(report.predictions[part], o), part, scale * o.error, o.ratio)
            rows.append(row if kind == "energy" else (*row, o.atom))
        head = ["Structure", "Part", f"Error, {unit}", "times the RMS", "Atom"][: 4 + (kind == "force")]
        if rows:
            title = "Energies" if kind == "energy" else "Forces: the worst atom of a structure"
            parts.append(f"<h3>{title}</h3>{table(head, rows, [0, 1])}")
    report.page.section(
        "Outliers", *parts,
        note="The structures that are described worst. A name is a link: it saves the structure with its labels and "
        "the predicted forces as extended XYZ. Very large errors often mean a failed calculation.",
    )  # fmt: skip


def _saved(predictions: Predictions, outlier: Outlier) -> str:
    """Link that saves the structure of an outlier with labels and predictions."""
    structure = predictions.structures[outlier.index]
    atoms = predictions.structure == outlier.index
    predicted = {"predicted_forces": predictions.forces[atoms]}
    info = {
        **structure.info,
        "predicted_energy": float(predictions.energy[outlier.index]) * structure.n_atoms,
    }
    content = extxyz_text(structure.replace(arrays=predicted, info=info))
    name = short_name(structure.name) or "structure"
    file = "".join(c if c.isalnum() or c in "-._" else "-" for c in name)
    return link_to_file(name, content, file.removesuffix(".xyz") + ".xyz")


def _extrapolation(report: Report) -> None:
    """Features outside the range of the training data."""
    model = report.run.model
    if model is None or not report.predictions:
        return
    if not model.metadata.get("feature_ranges"):
        report.note("The potential knows no ranges of features: there is no table of extrapolation.")
        return
    parts, rows = [], []
    for part, predictions in report.predictions.items():
        if part == "train":
            continue
        structures = predictions.structures
        some = structures[:: max(1, -(-len(structures) // _LOOKED_AT))]
        features, atoms = extrapolation_table(model, some)
        found = Extrapolation(
            part=part, structures=len(some), extrapolating=int((atoms > 0).sum()), atoms=int(atoms.sum()),
            features=[Feature(**vars(f)) for f in features],
        )  # fmt: skip
        report.data.extrapolation.append(found)
        parts.append(
            text(f"{part}: {found.extrapolating} of {found.structures} structures have features outside, on "
                 f"{found.atoms} atoms.")
        )  # fmt: skip
        rows += [
            (part, f.element, f.feature, f.atoms, f.structures, f.largest, short_name(f.structure))
            for f in features[:15]
        ]
    if rows:
        head = ["Part", "Element", "Feature", "Atoms", "Structures", "Farthest, of the range", "in"]
        parts.append(table(head, rows, [0, 1, 2, -1]))
    report.page.section(
        "Extrapolation", *parts,
        note="Features outside of the range that the training data span. None is no guarantee: a range can have holes.",
    )  # fmt: skip


def _contradictions(report: Report) -> None:
    """Correlation of the errors of two potentials."""
    other = report.options.other
    if other is None or not report.predictions:
        return
    html = []
    for part, mine in report.predictions.items():
        theirs = predict_all(other, mine.structures)
        panels = []
        for kind, unit, a, b in (
            ("energy", "Energy error (eV/atom)", mine.energy_error, theirs.energy_error),
            ("force", "Largest force error (eV/Å)", mine.largest_force_error, theirs.largest_force_error),
        ):
            indices, correlation = contradictions(a, b, _LARGE)
            names = [mine.structures[i].name for i in indices]
            report.data.contradictions.append(
                Contradiction(
                    other=other.where,
                    part=part,
                    kind=kind,
                    correlation=correlation,
                    factor=_LARGE,
                    structures=names,
                )
            )
            panels.append((unit, a, b, _LARGE))
            if names:
                listed = ", ".join(map(short_name, names[:12])) + (
                    f" and {len(names) - 12} more" if len(names) > 12 else ""
                )
                html.append(text(f"{part}, {kind}: large errors of both for {listed}."))
        figure = figures.correlation_figure(panels)
        if figure is not None:
            html.insert(0, f"<h3>{part}</h3>{image(figure)}")
    report.page.section(
        "Contradictory data", *html,
        note=f"Errors of this potential and of {other.where}. A large error of one of them is its own; large errors of "
        f"both (more than {_LARGE:g} times the root mean square) speak against the data.",
    )  # fmt: skip


def _calibration(report: Report) -> None:
    """Disagreement of a committee against its errors."""
    model = report.run.model
    if model is None or model.n_members < 2 or report.judge not in report.predictions:
        return
    p = report.predictions[report.judge]
    there = np.isfinite(p.force_error) & np.isfinite(p.force_std)
    figure = figures.calibration_figure(p.force_std, p.force_error)
    if figure is None:
        return
    known = np.isfinite(p.energy_error) & np.isfinite(p.energy_std)
    found = Calibration(
        members=model.n_members, spearman_atoms=rank_correlation(p.force_std[there], p.force_error[there]),
        spearman_energy=rank_correlation(p.energy_std[known], np.abs(p.energy_error[known])),
        rms_error=float(np.sqrt(np.mean(p.force_error[there] ** 2))),
        rms_disagreement=float(np.sqrt(np.mean(p.force_std[there] ** 2))),
    )  # fmt: skip
    report.data.calibration = found
    head = [
        "Members",
        "Rank correlation, forces",
        "energies",
        "RMS force error, eV/Å",
        "RMS disagreement, eV/Å",
    ]
    report.page.section(
        "Calibration of the committee", image(figure), table(head, [tuple(found.model_dump().values())]),
        note=f"Forces on the atoms of the {report.judge} structures. A committee agrees on what its members have in "
        "common, so its disagreement is smaller than its error; it should rise with it.",
    )  # fmt: skip


def _fisher(report: Report) -> None:
    """Spectrum of the Fisher information of a potential trained with a Kalman filter."""
    model, batches = report.run.model, report.options.fisher_batches
    optimizer = ((report.run.settings.get("training") or {}).get("optimizer") or {}).get("kind")
    if (
        model is None
        or model.metadata.get("baseline")
        or model.n_members > 1
        or optimizer != "ekf"
        or not batches
        or not report.run.splits.get("train")
    ):
        return

    def action() -> None:
        everything = report.run.splits["train"]
        some = list(everything[:: max(1, -(-len(everything) // _FISHER_STRUCTURES))])
        spectrum = model_spectrum(model.atomic_model(), some, batches)
        report.data.fisher = Fisher(**spectrum.summary())
        figure = figures.spectrum_figure({report.run.name: spectrum})
        if figure is None:
            return
        s = report.data.fisher
        words = (
            f"{s.n_resolved} eigenvalues of {s.n_weights} are resolved by {s.n_batches} batches of labels of "
            f"{len(some)} structures; trace {s.trace:.3g}, effective rank {s.effective_rank:.3g}."
        )
        report.page.section(
            "Fisher information", image(figure), text(words),
            note="How sharply the labels determine the weights (Shao et al. 2021, eq. 1). Compare with other "
            "potentials on the same data: larger eigenvalues mean a better determined minimum.",
        )  # fmt: skip

    guarded(report, "Fisher information", action)


SECTIONS: list[tuple[str, Callable[[Report], None]]] = [
    ("errors", _errors), ("directions of forces", _force_maps), ("outliers", _outliers),
    ("extrapolation", _extrapolation), ("contradictory data", _contradictions), ("calibration", _calibration),
    ("Fisher information", _fisher),
]  # fmt: skip
