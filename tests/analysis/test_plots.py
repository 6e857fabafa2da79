"""Figures appear complete or not at all; numbers are written with their errors."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from series import ar1

from nnpkit.analysis.averages import block_average
from nnpkit.analysis.dynamics import energy_drift
from nnpkit.analysis.liquid import RadialDistribution
from nnpkit.analysis.plots import figure, format_error, plot_drift, plot_radial_distribution, plot_series

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("n", [2, 10, 500])
def test_series_and_drift(tmp_path, n: int) -> None:
    time, values = np.arange(n) * 0.1, 300 + ar1(n, 0.8, 1)
    plot_series(
        tmp_path / "t.png", "Temperature", time, values, "Temperature (K)", block_average(values),
        begin=float(time[n // 4]), target=300.0, unit="K",
    )  # fmt: skip
    plot_drift(tmp_path / "d.png", "Total energy", time, values, energy_drift(time, values, 10))
    assert all((tmp_path / name).read_bytes().startswith(PNG) for name in ("t.png", "d.png"))


@pytest.mark.parametrize("elements", ["H", "HO", "CHNO"])
def test_radial_distributions(tmp_path, elements: str) -> None:
    r = np.linspace(0.01, 6, 300)
    g = {(a, b): 1 + 30 * np.exp(-(((r - 1) / 0.05) ** 2)) for a in elements for b in elements if a <= b}
    plot_radial_distribution(tmp_path / "g.png", "g", RadialDistribution(r, g, {}, 1))
    assert (tmp_path / "g.png").read_bytes().startswith(PNG)


def test_nothing_half_drawn_and_no_style_left_behind(tmp_path) -> None:
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "a.png", "title", "x", "y") as ax:
        ax.plot([0, 1], [0, 1 / 0])
    assert list(tmp_path.iterdir()) == []
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.99731, 0.00213, "0.9973 ± 0.0021"),
        (303.21, 2.345, "303.2 ± 2.3"),
        (4481.2, 281.4, "4481 ± 281"),
        (-0.00003, 0.00063, "-0.00003 ± 0.00063"),
        (1.2e-7, 3.4e-8, "1.20e-07 ± 3.4e-08"),
        (2.5, 0.0, "2.5"),
        (8.971719014118293, 1.3e-15, "8.97172"),
        (2.5, float("nan"), "2.5"),
    ],
)
def test_numbers_with_errors(value: float, error: float, text: str) -> None:
    assert format_error(value, error) == text
