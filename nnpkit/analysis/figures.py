"""Figures of reports and analyses, each as the bytes of a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnpkit.analysis.fisher import Spectrum
from nnpkit.analysis.force_errors import ErrorMap
from nnpkit.analysis.plots import COLORS, canvas, png
from nnpkit.analysis.weights import WeightChange

__all__ = [
    "calibration_figure", "correlation_figure", "curves_figure", "decay_figure", "error_map_figure", "front_figure",
    "histogram_figure",
    "parity_figure", "spectrum_figure", "study_figure", "weights_figure",
]  # fmt: skip

_DENSITY = 4000
"""Points from which on their density is drawn instead of them."""


def _points(ax: Any, x: np.ndarray, y: np.ndarray, color: str, fig: Any = None) -> None:
    """Points, or their density on a logarithmic scale where they are many."""
    if len(x) <= _DENSITY:
        ax.plot(x, y, "o", ms=3.2, mew=0, alpha=max(0.25, min(0.8, 300 / max(1, len(x)))), color=color)
        return
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    scale = LinearSegmentedColormap.from_list("density", ["#d6e4f0", color, "#0b1f33"])
    counts, xe, ye = np.histogram2d(x, y, bins=160)
    mesh = ax.pcolormesh(
        xe, ye, np.ma.masked_equal(counts.T, 0), norm=LogNorm(1), cmap=scale, rasterized=True
    )
    if fig is not None:
        fig.colorbar(mesh, ax=ax, label="labels per bin", shrink=0.85)


def parity_figure(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]], quantity: str, unit: str, scale: float = 1.0
) -> bytes | None:
    """Prediction against label, and the signed error below, side by side for each part of the data.

    Parameters
    ----------
    parts : mapping
        For ``train``, ``validation`` and ``test``: predictions and labels, of any equal shapes; NaN where there is no
        label.
    quantity, unit : str
        For the axes.
    scale : float
        Factor from the unit to that of the errors, e.g. 1000 for meV (the unit then gets an ``m``).

    Returns
    -------
    bytes or None
        None without labels.
    """
    known = {}
    for name, (predicted, label) in parts.items():
        there = np.isfinite(predicted) & np.isfinite(label)
        if there.any():
            known[name] = (predicted[there], label[there])
    if not known:
        return None
    error_unit = "m" + unit if scale == 1000.0 else unit
    with canvas((4.6 * len(known) + (0.4 if len(known) == 1 else 0.0), 5.6)) as fig:
        axes = fig.subplots(2, len(known), squeeze=False, height_ratios=(2, 1), sharex="col")
        for column, (name, (predicted, label)) in enumerate(known.items()):
            color, top, bottom = COLORS[column], axes[0, column], axes[1, column]
            error = (predicted - label) * scale
            many = len(label) > _DENSITY
            _points(top, label, predicted, color, fig if many else None)
            ends = [min(label.min(), predicted.min()), max(label.max(), predicted.max())]
            top.plot(ends, ends, color=COLORS[5], linewidth=0.8, zorder=1)
            _points(bottom, label, error, color)
            bottom.axhline(0.0, color=COLORS[5], linewidth=0.8, zorder=1)
            rmse, mae = float(np.sqrt(np.mean(error**2))), float(np.abs(error).mean())
            top.set_title(f"{name}: {len(label):,} labels".replace(",", " "))
            top.text(
                0.03, 0.97, f"RMSE {rmse:.4g}\nMAE {mae:.4g}\nmax {np.abs(error).max():.4g} {error_unit}",
                transform=top.transAxes, va="top", fontsize=9,
            )  # fmt: skip
            top.set_ylabel(f"Predicted {quantity} ({unit})")
            bottom.set_ylabel(f"Error ({error_unit})")
            bottom.set_xlabel(f"Reference {quantity} ({unit})")
        return png(fig)


def curves_figure(curves: Sequence[Mapping[str, Any]]) -> bytes | None:
    """Errors of energies, forces and stress of all parts over the epochs.

    Parameters
    ----------
    curves : sequence of mappings
        Lines of ``metrics.jsonl``: ``epoch``, and for ``train`` and ``validation`` the errors of
        `nnpkit.measure.metrics.METRICS`.
    """
    kinds = (
        ("energy_rmse", "Energy RMSE (meV/atom)", 1000.0),
        ("force_rmse", "Force RMSE (meV/Å)", 1000.0),
        ("stress_rmse", "Stress RMSE (GPa)", 1.0),
    )
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for line in curves:
        for part in ("train", "validation"):
            for key, _, scale in kinds:
                value = (line.get(part) or {}).get(key)
                if value is not None:
                    series.setdefault(key, {}).setdefault(part, []).append((line["epoch"], scale * value))
    shown = [kind for kind in kinds if kind[0] in series]
    if not shown:
        return None
    with canvas((3.7 * len(shown) + 0.4, 3.1)) as fig:
        for ax, (key, label, _) in zip(fig.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            for color, (part, points) in zip(COLORS, series[key].items(), strict=False):
                x, y = np.array(points).T
                ax.plot(x, y, "o-" if len(x) < 40 else "-", ms=3, color=color, label=part)
            ax.set(xlabel="Epoch", ylabel=label, yscale="log")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.legend()
        return png(fig)


def error_map_figure(maps: Mapping[str, tuple[ErrorMap, Mapping[str, Any]]]) -> bytes | None:
    """Frequency of errors in the direction of forces by their magnitude, one panel for each part of the data."""
    maps = {name: m for name, m in maps.items() if m[0].frequency.any()}
    if not maps:
        return None
    from matplotlib.colors import LogNorm

    with canvas((4.9 * len(maps), 3.5)) as fig:
        for ax, (name, (errors, summary)) in zip(
            fig.subplots(1, len(maps), squeeze=False)[0], maps.items(), strict=True
        ):
            shown = np.ma.masked_equal(errors.frequency.T, 0.0)
            mesh = ax.pcolormesh(
                errors.force, errors.angle, shown, norm=LogNorm(), cmap="magma_r", rasterized=True
            )
            fig.colorbar(mesh, ax=ax, label="Relative frequency")
            ax.set_title(f"{name}: median {summary['direction_median']:.2g}°")
            ax.set(xlabel="Reference force (eV/Å)", ylabel="Error of the direction (°)", ylim=(0, 180))
        return png(fig)


def spectrum_figure(spectra: Mapping[str, Spectrum]) -> bytes | None:
    """Distribution of the decadic logarithms of the eigenvalues of Fisher information matrices."""
    logs = {name: np.log10(s.resolved) for name, s in spectra.items() if len(s.resolved) > 1}
    if not logs:
        return None
    low, high = min(v.min() for v in logs.values()), max(v.max() for v in logs.values())
    with canvas((6.4, 3.1)) as fig:
        ax = fig.subplots()
        for color, (name, values) in zip(COLORS * 3, logs.items(), strict=False):
            ax.hist(values, bins=np.linspace(low, high + 1e-9, 41), histtype="step", linewidth=1.5, color=color,
                    density=True, label=f"{name} (median {np.median(values):.2f})")  # fmt: skip
        ax.set(xlabel="$\\log_{10}$ of the eigenvalue", ylabel="Density")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)
        return png(fig)


def correlation_figure(panels: Sequence[tuple[str, np.ndarray, np.ndarray, float]]) -> bytes | None:
    """Errors of one potential against those of another, for each kind of label.

    Parameters
    ----------
    panels : sequence of (str, array, array, float)
        Name with unit, errors (M,) of the first and of the second potential, and the multiple of each one's root
        mean square error beyond which both are large; NaN where there is no label.
    """
    known = []
    for name, first, second, factor in panels:
        there = np.isfinite(first) & np.isfinite(second)
        if there.sum() > 2:
            known.append((name, first[there], second[there], factor))
    if not known:
        return None
    with canvas((4.7 * len(known), 3.9)) as fig:
        for ax, (name, first, second, factor) in zip(
            fig.subplots(1, len(known), squeeze=False)[0], known, strict=True
        ):
            _points(ax, first, second, COLORS[0])
            bounds = [factor * float(np.sqrt(np.mean(e**2))) for e in (first, second)]
            large = (np.abs(first) > bounds[0]) & (np.abs(second) > bounds[1])
            ax.plot(
                first[large],
                second[large],
                "o",
                ms=5,
                mfc="none",
                mec=COLORS[1],
                label=f"both large: {large.sum()}",
            )
            for bound, line in ((bounds[0], ax.axvline), (bounds[1], ax.axhline)):
                for sign in (-1, 1) if first.min() < 0.0 else (1,):
                    line(sign * bound, color=COLORS[5], linewidth=0.7, linestyle=(0, (5, 4)))
            ax.set(xlabel=f"{name}, this potential", ylabel=f"{name}, the other")
            ax.legend(loc="best")
        return png(fig)


def calibration_figure(std: np.ndarray, error: np.ndarray, unit: str = "eV/Å") -> bytes | None:
    """True error against disagreement of a committee, with the root mean square error in bins of disagreement."""
    there = np.isfinite(std) & np.isfinite(error) & (std > 0.0) & (error > 0.0)
    std, error = std[there], error[there]
    if len(std) < 3:
        return None
    with canvas((5.4, 4.2)) as fig:
        ax = fig.subplots()
        ax.set(xscale="log", yscale="log", xlabel=f"Disagreement ({unit})", ylabel=f"Error ({unit})")
        ax.plot(
            std,
            error,
            "o",
            ms=2.2,
            mew=0,
            alpha=max(0.06, min(0.6, 400 / len(std))),
            color=COLORS[0],
            rasterized=True,
        )
        groups = np.array_split(np.argsort(std), min(12, max(2, len(std) // 20)))
        x = [float(np.sqrt(np.mean(std[g] ** 2))) for g in groups]
        y = [float(np.sqrt(np.mean(error[g] ** 2))) for g in groups]
        ax.plot(x, y, "s-", ms=5, color=COLORS[1], label="root mean squares of equal shares")
        ends = [std.min(), std.max()]
        ax.plot(
            ends, ends, color=COLORS[5], linewidth=0.8, linestyle=(0, (5, 4)), label="error = disagreement"
        )
        ax.legend(loc="upper left", fontsize=9)
        return png(fig)


def histogram_figure(series: Mapping[str, np.ndarray], label: str, bins: int = 60) -> bytes | None:
    """Distributions of several sets of numbers over common bins."""
    series = {name: v[np.isfinite(v)] for name, v in series.items()}
    series = {name: v for name, v in series.items() if len(v)}
    if not series:
        return None
    low, high = min(v.min() for v in series.values()), max(v.max() for v in series.values())
    with canvas((6.4, 3.0)) as fig:
        ax = fig.subplots()
        edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
        for color, (name, values) in zip(COLORS * 3, series.items(), strict=False):
            ax.hist(values, bins=edges, histtype="step", linewidth=1.5, density=True, color=color,
                    label=f"{name} ({len(values)})")  # fmt: skip
        ax.set(xlabel=label, ylabel="Density")
        ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)
        return png(fig)


def weights_figure(
    changes: Mapping[str, WeightChange], curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> bytes:
    """Distance of the weights from their beginning over the epochs, and their distribution (Shao et al., Fig. 8)."""
    with canvas((9.4, 3.6)) as fig:
        left, right = fig.subplots(1, 2)
        everything = {name: np.concatenate(change.weights) for name, change in changes.items()}
        bound = max(float(np.quantile(np.abs(w), 0.995)) for w in everything.values()) or 1.0
        for color, (name, values) in zip(COLORS * 3, everything.items(), strict=False):
            epochs, distance = curves[name]
            left.plot(epochs, distance, "o-" if len(epochs) < 40 else "-", ms=3, color=color, label=name)
            right.hist(
                values, bins=np.linspace(-bound, bound, 61), histtype="step", density=True, color=color
            )
        left.set(xlabel="Epoch", ylabel="Distance from the first weights")
        right.set(xlabel="Weight", ylabel="Density")
        left.legend()
        return png(fig)


def decay_figure(x: Sequence[float], y: Sequence[float], x_label: str, y_label: str) -> bytes:
    """A quantity that should fall with the distance, on a logarithmic scale."""
    with canvas((6.0, 3.8)) as fig:
        ax = fig.subplots()
        values = np.asarray(y, dtype=np.float64)
        shown = values > 0.0
        ax.plot(np.asarray(x)[shown], values[shown], "o", ms=4, color=COLORS[0])
        if shown.any():
            ax.set_yscale("log")
        ax.set(xlabel=x_label, ylabel=y_label)
        return png(fig)


def study_figure(rows: Sequence[Mapping[str, Any]], by: str, label: str) -> bytes | None:
    """Errors of trainings in series by what was changed: all seeds as points, their geometric mean as a line."""
    kinds = (("energy_rmse", "Energy RMSE (meV/atom)"), ("force_rmse", "Force RMSE (meV/Å)"))
    with canvas((9.4, 3.6)) as fig:
        drawn = False
        for ax, (key, title) in zip(fig.subplots(1, 2), kinds, strict=True):
            for color, part in zip(COLORS, ("train", "test"), strict=False):
                points: dict[Any, list[float]] = {}
                for row in rows:
                    value = (row.get(part) or {}).get(key)
                    if value:
                        points.setdefault(row[by], []).append(1e3 * value)
                if points:
                    x = [_number(v) for v in points]
                    mean = [float(np.exp(np.mean(np.log(v)))) for v in points.values()]
                    ax.plot(x, mean, "o-", ms=4, color=color, label=part)
                    for place, values in zip(x, points.values(), strict=True):
                        ax.plot([place] * len(values), values, "_", ms=7, color=color, alpha=0.6)
                    drawn = True
                    if all(isinstance(v, float) and v > 0.0 for v in x):
                        ax.set_xscale("log")
            ax.set(xlabel=label, ylabel=title, yscale="log")
        if drawn:
            fig.axes[0].legend()
        return png(fig) if drawn else None


def front_figure(points: Mapping[str, Sequence[tuple[float, float]]], y_label: str) -> bytes:
    """Errors against costs of a step, a colour for each kind of potential; the front of all is drawn as a line."""
    with canvas((6.8, 4.2)) as fig:
        ax = fig.subplots()
        for number, (kind, own) in enumerate(points.items()):
            x, y = np.array(own).T
            ax.plot(x, y, "os^Dv<>*P"[number % 9], ms=5, color=COLORS[number % len(COLORS)], label=kind)
        front: list[tuple[float, float]] = []
        for point in sorted(p for own in points.values() for p in own):
            if not front or point[1] < front[-1][1]:
                front.append(point)
        ax.plot(*np.array(front).T, "-", color="#aab1ba", lw=1.2, zorder=0)
        ax.set(
            xlabel="Cost in LAMMPS (µs per atom and step, one core)",
            ylabel=y_label,
            xscale="log",
            yscale="log",
        )
        ax.legend()
        return png(fig)


def _number(value: Any) -> Any:
    """`value` as a number, if it is one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
