"""Figures in one house style, written as PNG without a display."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpkit.analysis.averages import Average
from nnpkit.analysis.dynamics import Drift
from nnpkit.analysis.liquid import RadialDistribution
from nnpkit.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS", "STYLE", "canvas", "figure", "format_error", "plot_drift", "plot_radial_distribution", "plot_series",
    "png",
]  # fmt: skip

COLORS = ("#1b6ca8", "#d1495b", "#3c8d5a", "#e09f3e", "#7d5ba6", "#4a4e57")
"""Blue, red, green, amber, violet, slate: distinct also for the common colour-blindnesses and in grey."""

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#4a4e57",
    "axes.grid": True,
    "axes.labelcolor": "#22252b",
    "axes.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 160,
    "xtick.color": "#4a4e57",
    "ytick.color": "#4a4e57",
    "xtick.direction": "out",
    "ytick.direction": "out",
}
_RAW = "#a9c6de"
_SHADE = "#f1f2f4"


@contextmanager
def canvas(size: tuple[float, float] = (6.4, 3.8)) -> Iterator[Any]:
    """A matplotlib figure of `size` (inches) to draw into in the house style; write it with `png` inside the block."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        fig = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(fig)
        yield fig


def png(fig: Any) -> bytes:
    """The PNG file of a `canvas`."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    return buffer.getvalue()


@contextmanager
def figure(
    path: str | Path | io.BytesIO,
    title: str,
    x: str,
    y: str,
    rows: int = 1,
    size: tuple[float, float] | None = None,
) -> Iterator[Any]:
    """Axes to draw into; the PNG appears at `path` when the block ends without an exception.

    Parameters
    ----------
    path : path or io.BytesIO
        PNG file, or where its bytes go.
    title : str
        Above the first axes.
    x, y : str
        Labels with units.
    rows : int
        More than one gives a list of axes under each other that share x.
    size : (width, height), optional
        Inches.

    Yields
    ------
    matplotlib.axes.Axes or list of them
    """
    with canvas(size or (6.4, 3.8 + 2.0 * (rows - 1))) as fig:
        axes = fig.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
        axes[0].set_title(title)
        axes[-1].set_xlabel(x)
        for ax in axes:
            ax.set_ylabel(y)
        yield axes[0] if rows == 1 else list(axes)
        if isinstance(path, io.BytesIO):
            path.write(png(fig))
            return
        with atomic_write(path, "wb") as stream:
            stream.write(png(fig))


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Centred mean over `width` (odd) values, fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    k = np.arange(len(values))
    half = np.minimum(np.minimum(k, len(values) - 1 - k), width // 2)
    return (total[k + half + 1] - total[k - half]) / (2 * half + 1)


def plot_together(
    path: str | Path | io.BytesIO,
    title: str,
    time: np.ndarray,
    rows: Sequence[tuple[str, Mapping[str, np.ndarray]]],
) -> None:
    """Several quantities along a trajectory under each other; each row is a label and its named series.

    Long series are drawn as running means.
    """
    with figure(path, title, "Time (ps)", "", rows=len(rows)) as axes:
        for ax, (label, series) in zip(axes if len(rows) > 1 else [axes], rows, strict=True):
            ax.set_ylabel(label)
            for color, (name, values) in zip(COLORS, series.items(), strict=False):
                width = max(5, len(values) // 50) | 1 if len(values) > 60 else 1
                ax.plot(time, _running_mean(values, width), color=color, linewidth=1.2, label=name)
            if len(series) > 1:
                ax.legend(ncols=3)


def plot_series(
    path: str | Path,
    title: str,
    time: np.ndarray,
    values: np.ndarray,
    label: str,
    average: Average | None = None,
    begin: float | None = None,
    target: float | None = None,
    unit: str = "",
) -> None:
    """A quantity along a trajectory: samples, running mean, average with error, and target.

    Parameters
    ----------
    path, title, label : path, str, str
        File, title, and label of the vertical axis with unit.
    time, values : (T,) arrays
        ps, and the samples.
    average : Average, optional
        Drawn as a line from `begin` on, and named in the legend.
    begin : float, optional
        ps; what comes before is shaded as equilibration.
    target : float, optional
        Value set by thermostat or barostat.
    unit : str
        Of the average in the legend.
    """
    with figure(path, title, "Time (ps)", label) as ax:
        smooth = len(values) > 60
        ax.plot(time, values, color=_RAW if smooth else COLORS[0], linewidth=0.8 if smooth else 1.4)
        if smooth:
            width = max(5, len(values) // 50) | 1
            ax.plot(time, _running_mean(values, width), color=COLORS[0], label="running mean")
            _limit(ax, values)
        if target is not None:
            ax.axhline(target, color=COLORS[5], linewidth=1.0, linestyle=(0, (5, 4)), label="target")
        if average is not None and np.isfinite(average.mean):
            start = time[0] if begin is None else begin
            text = f"mean {format_error(average.mean, average.error)} {unit}".strip()
            ax.plot([start, time[-1]], [average.mean] * 2, color=COLORS[1], label=text)
        _shade(ax, time, begin)
        ax.margins(x=0.01)
        _legend_above(ax)


def _limit(ax: Axes, values: np.ndarray) -> None:
    """Keep a few wild samples, such as the first steps, from flattening the rest."""
    low, high = np.percentile(values, [0.5, 99.5])
    if np.ptp(values) > 4.0 * (high - low) > 0.0:
        margin = 0.25 * (high - low)
        ax.set_ylim(low - margin, high + margin)


def _shade(ax: Axes, time: np.ndarray, begin: float | None) -> None:
    if begin is None or begin <= time[0]:
        return
    ax.axvspan(time[0], begin, color=_SHADE, zorder=0, linewidth=0)
    if begin - time[0] > 0.16 * (time[-1] - time[0]):
        ax.annotate(
            "equilibration", (time[0], 0.02), xycoords=("data", "axes fraction"), fontsize=8, color="#7b808a",
            xytext=(4, 0), textcoords="offset points",
        )  # fmt: skip


def _legend_above(ax: Axes) -> None:
    """Legend in one line between title and axes, where it hides nothing."""
    if ax.get_legend_handles_labels()[0]:
        ax.set_title(ax.get_title(loc="left"), loc="left", pad=24)
        ax.legend(
            loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, fontsize=9, handlelength=1.6, borderpad=0.2,
            borderaxespad=0.2, columnspacing=1.6,
        )  # fmt: skip


def plot_drift(path: str | Path, title: str, time: np.ndarray, energy: np.ndarray, drift: Drift) -> None:
    """The energy that should be constant, meV/atom from its mean, with its linear trend.

    `energy` is (T,), per atom in eV.
    """
    with figure(path, title, "Time (ps)", "Deviation (meV/atom)") as ax:
        deviation = (energy - energy.mean()) * 1000.0
        ax.plot(time, deviation, color=_RAW if len(time) > 60 else COLORS[0], linewidth=0.8)
        if np.isfinite(drift.slope):
            trend = drift.slope * (time - time.mean())
            text = f"drift {format_error(drift.slope, drift.error)} meV/atom/ps"
            ax.plot(time, trend, color=COLORS[1], label=text)
            _legend_above(ax)
        ax.margins(x=0.01)


def plot_radial_distribution(path: str | Path, title: str, rdf: RadialDistribution) -> None:
    """g(r) of every pair of elements, one panel each for up to three pairs, else in one."""
    pairs = list(rdf.g)
    rows = len(pairs) if len(pairs) <= 3 else 1
    size = (6.4, 3.8 if rows == 1 else 1.6 + 1.7 * rows)
    with figure(path, title, "r (Å)", "g(r)", rows, size) as panels:
        for k, pair in enumerate(pairs):
            ax = panels[k] if rows > 1 else panels
            color = COLORS[k % len(COLORS)]
            g = rdf.g[pair]
            ax.plot(rdf.r, g, color=color, label="-".join(pair), linestyle="-" if k < len(COLORS) else "--")
            if rows > 1:
                ax.legend(loc="upper right", handlelength=0, handletextpad=0, labelcolor=color, fontsize=11)
                _limit_peak(ax, rdf.r, g)
            ax.axhline(1.0, color=COLORS[5], linewidth=0.7, linestyle=(0, (5, 4)), zorder=1)
            ax.set_xlim(0.0, rdf.r[-1])
            ax.set_ylim(bottom=0.0)
        if rows == 1:
            panels.legend(loc="upper right", ncols=2)


def _limit_peak(ax: Axes, r: np.ndarray, g: np.ndarray) -> None:
    """Cut the peak of bonded neighbours when it hides everything else, and say how high it is."""
    beyond = g[r > r[int(g.argmax())] + 0.5]
    if beyond.size and g.max() > 6.0 * max(float(beyond.max()), 1.0):
        top = 2.0 * max(float(beyond.max()), 1.0)
        ax.set_ylim(0.0, top)
        ax.annotate(
            f"peak {g.max():.1f}", (r[int(g.argmax())], top), xytext=(6, -12), textcoords="offset points",
            fontsize=9, color=COLORS[5],
        )  # fmt: skip


def format_error(value: float, error: float | None) -> str:
    """``0.9973 ± 0.0021``: two digits of the error; the bare number where there is none, or but rounding."""
    if error is None or not np.isfinite(error) or error <= 1e-12 * abs(value):
        return f"{value:.6g}"
    decimals = 1 - int(np.floor(np.log10(error)))
    if decimals > 6 and abs(value) < 1e-3:
        return f"{value:.2e} ± {error:.1e}"
    return f"{value:.{max(decimals, 0)}f} ± {error:.{max(decimals, 0)}f}"
