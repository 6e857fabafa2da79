"""Figures of what crystals do: equations of state, phonons."""

from __future__ import annotations

import numpy as np

from nnpkit.analysis.phonons import Phonons
from nnpkit.analysis.plots import COLORS, canvas, png
from nnpkit.analysis.solids import EquationOfState

__all__ = ["phonon_figure", "state_figure"]


def state_figure(state: EquationOfState) -> bytes:
    """PNG of an equation of state: energies and the fit."""
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        fine = np.linspace(state.volumes[0], state.volumes[-1], 200)
        ax.plot(fine, (state(fine) - state.energy) * 1e3, color=COLORS[0], label="Birch-Murnaghan")
        ax.plot(
            state.volumes,
            (state.energies - state.energy) * 1e3,
            "o",
            color=COLORS[1],
            ms=4,
            label="potential",
        )
        ax.set(xlabel="Volume (Å³/atom)", ylabel="Energy above the minimum (meV/atom)")
        ax.legend()
        return png(fig)


def phonon_figure(found: Phonons) -> bytes:
    """PNG of phonon bands and their density of states."""
    with canvas((5.4, 3.7)) as fig:
        left, right = fig.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        left.plot(found.distance, found.bands, color=COLORS[0], linewidth=1.0)
        ticks: dict[float, str] = {}
        for x, name in found.labels:
            name = {"G": "Γ"}.get(name, name)
            ticks[x] = f"{ticks[x]}|{name}" if x in ticks and ticks[x] != name else name
        left.set_xticks(list(ticks), list(ticks.values()))
        left.set_xlim(found.distance[0], found.distance[-1])
        left.set_ylabel("Frequency (THz)")
        left.axhline(0.0, color=COLORS[5], linewidth=0.7)
        right.fill_betweenx(found.frequency, found.density, color=COLORS[0], alpha=0.35, linewidth=0)
        right.set_xlabel("Density of states")
        right.set_xticks([])
        return png(fig)
