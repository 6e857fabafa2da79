"""Diffusion, viscosity and spectra of vibration from trajectories, with error bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnpkit.errors import InputError

__all__ = ["LEAST_SAMPLES", "Diffusion", "Spectrum", "Viscosity", "diffusion", "vibrations", "viscosity"]

_BLOCKS = 5
LEAST_SAMPLES = {"diffusion": 20 * _BLOCKS, "viscosity": 100 * _BLOCKS, "vibrations": 100}
"""Frames, or samples of the pressure, that each takes."""
_KB = 8.617333262e-5  # eV/K
_EV_A3_PS = 1.602176634e-19 / 1e-30 * 1e-12  # Pa s per eV ps/Å³
_BAR = 1.0 / 1.602176634e6  # eV/Å³
_FIT = (0.2, 0.8)  # part of the longest time in which the slope is taken
_YEH_HUMMER = 2.837297


@dataclass
class Diffusion:
    """Self-diffusion of one element by Einstein's relation."""

    element: str
    coefficient: float  # 1e-9 m²/s (= Å²/ps x 10)
    error: float  # standard error of the mean of independent parts of the run; NaN if there is one
    time: np.ndarray  # (T,) ps
    displacement: np.ndarray  # (T,) mean squared, Å²


@dataclass
class Viscosity:
    """Shear viscosity by Green and Kubo."""

    value: float  # mPa s
    error: float  # standard error over independent parts of the run
    time: np.ndarray  # (T,) ps
    integral: np.ndarray  # (T,) mPa s, running
    spread: np.ndarray  # (T,) standard error of it
    cutoff: float  # ps, where the integral is read


@dataclass
class Spectrum:
    """Density of vibrational states from velocities, of each element and together."""

    frequency: np.ndarray  # (F,) THz
    density: dict[str, np.ndarray]  # (F,) per THz, together one for each degree of freedom


def diffusion(
    positions: np.ndarray, symbols: Sequence[str], interval: float, masses: np.ndarray | None = None
) -> list[Diffusion]:
    """Diffusion coefficients from unwrapped positions.

    The trajectory is cut into five parts, which count as independent: each gives mean squared displacements over all
    origins of time, ``D`` is a sixth of their slope between 0.2 and 0.8 of the longest time (a quarter of the part),
    and the error is that of the mean of the parts. The drift of the centre of mass is taken out.

    Parameters
    ----------
    positions : (F, N, 3) array
        Å, unwrapped, equally spaced in time.
    symbols : sequence of str
        Of the atoms.
    interval : float
        ps between frames.
    masses : (N,) array, optional
        For the centre of mass; equal ones by default.

    Raises
    ------
    InputError
        If there are too few frames.
    """
    frames = len(positions)
    length = frames // _BLOCKS
    if frames < LEAST_SAMPLES["diffusion"]:
        raise InputError(
            f"{frames} frames are too few for diffusion", expected=f"at least {LEAST_SAMPLES['diffusion']}"
        )
    weights = np.ones(len(symbols)) if masses is None else np.asarray(masses)
    moved = positions - (positions * weights[:, None]).sum(axis=1, keepdims=True) / weights.sum()
    found = []
    for element in sorted(set(symbols)):
        mine = moved[:, np.array(symbols) == element]
        curves = np.array([_displacements(mine[n * length : (n + 1) * length]) for n in range(_BLOCKS)])
        time = np.arange(curves.shape[1]) * interval
        use = (time >= _FIT[0] * time[-1]) & (time <= _FIT[1] * time[-1])
        slopes = np.array([np.polyfit(time[use], curve[use], 1)[0] for curve in curves]) / 6.0 * 10.0
        error = float(slopes.std(ddof=1) / np.sqrt(_BLOCKS))
        found.append(Diffusion(element, float(slopes.mean()), error, time, curves.mean(axis=0)))
    return found


def _displacements(positions: np.ndarray) -> np.ndarray:
    """Mean squared displacements (L,) of (F, N, 3) positions for delays up to a quarter of the frames."""
    longest = max(2, len(positions) // 4)
    return np.array(
        [0.0]
        + [
            float(((positions[delay:] - positions[:-delay]) ** 2).sum(axis=2).mean())
            for delay in range(1, longest)
        ]
    )


def finite_size(temperature: float, viscosity_mpas: float, volume: float) -> float:
    """What a cubic box of `volume` (Å³) takes from a diffusion coefficient, 1e-9 m²/s.

    Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004): ``k T xi / (6 pi eta L)``.
    """
    thermal = 1.380649e-23 * temperature
    edge = volume ** (1.0 / 3.0) * 1e-10
    return float(thermal * _YEH_HUMMER / (6.0 * np.pi * viscosity_mpas * 1e-3 * edge) * 1e9)


def viscosity(
    pressure: Mapping[str, np.ndarray],
    interval: float,
    volume: float,
    temperature: float,
    longest: float | None = None,
) -> Viscosity:
    """Shear viscosity from the pressure tensor: ``V / kT`` times the integral of its autocorrelation.

    Averaged over xy, xz, yz and two differences of the diagonal, (xx - yy)/2 and (yy - zz)/2 (Alfe and Gillan, Phys.
    Rev. Lett. 81, 5161 (1998)). The integral is read where the autocorrelation of the whole run first falls below
    twice its statistical error or to a thousandth; the error is that of the mean of five parts of the run.

    Parameters
    ----------
    pressure : mapping
        Components ``xx``, ``yy``, ``zz``, ``xy``, ``xz``, ``yz`` as (T,) arrays in bar, equally spaced.
    interval : float
        ps between samples; a few fs, or the correlation is not resolved.
    volume : float
        Å³.
    temperature : float
        K.
    longest : float, optional
        ps; the longest delay, by default a tenth of each part of the run.

    Raises
    ------
    InputError
        If the run is too short.
    """
    p = {name: np.asarray(values) * _BAR for name, values in pressure.items()}
    series = np.stack([
        p["xy"], p["xz"], p["yz"], (p["xx"] - p["yy"]) / 2.0, (p["yy"] - p["zz"]) / 2.0,
    ])  # fmt: skip
    length = series.shape[1] // _BLOCKS
    steps = length // 10 if longest is None else min(length - 1, int(longest / interval))
    if steps < 10:
        raise InputError(
            f"{series.shape[1]} samples of the pressure are too few for a viscosity",
            expected=f"{LEAST_SAMPLES['viscosity']} or more",
        )
    blocks = np.array([
        np.mean([_autocorrelation(s, steps) for s in series[:, n * length : (n + 1) * length]], axis=0)
        for n in range(_BLOCKS)
    ])  # fmt: skip
    factor = volume / (_KB * temperature) * _EV_A3_PS * 1e3
    trapezoids = (blocks[:, 1:] + blocks[:, :-1]) / 2.0 * interval
    integrals = factor * np.concatenate([np.zeros((_BLOCKS, 1)), np.cumsum(trapezoids, axis=1)], axis=1)
    mean, noise = blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(_BLOCKS)
    small = np.flatnonzero(mean < np.maximum(2.0 * noise, 1e-3 * mean[0]))
    end = int(small[0]) if len(small) else steps - 1
    spread = integrals.std(axis=0, ddof=1) / np.sqrt(_BLOCKS)
    mean = integrals.mean(axis=0)
    return Viscosity(
        float(mean[end]), float(spread[end]), np.arange(steps) * interval, mean, spread, end * interval
    )  # fmt: skip


def _autocorrelation(series: np.ndarray, steps: int) -> np.ndarray:
    """``<a(0) a(t)>`` for the first `steps` delays; the mean is not taken out: it is zero in equilibrium."""
    n = len(series)
    spectrum = np.fft.rfft(series, 2 * n)
    overlap = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:steps]
    return overlap / (n - np.arange(steps))


def vibrations(
    velocities: np.ndarray, symbols: Sequence[str], masses: np.ndarray, interval: float, width: float = 0.2
) -> Spectrum:
    """Vibrational density of states: the power spectrum of the mass-weighted velocities, smoothed by a Gaussian.

    Parameters
    ----------
    velocities : (F, N, 3) array
        Equally spaced in time.
    symbols : sequence of str
        Of the atoms.
    masses : (N,) array
        u.
    interval : float
        ps between frames; frequencies up to 1/(2 interval) are seen.
    width : float
        THz, standard deviation of the Gaussian.

    Raises
    ------
    InputError
        If there are too few frames.
    """
    frames = len(velocities)
    if frames < LEAST_SAMPLES["vibrations"]:
        raise InputError(
            f"{frames} frames are too few for a spectrum", expected=f"at least {LEAST_SAMPLES['vibrations']}"
        )
    weighted = (velocities - velocities.mean(axis=0)) * np.sqrt(np.asarray(masses))[:, None]
    window = np.hanning(frames)[:, None, None]
    power = np.abs(np.fft.rfft(weighted * window, axis=0)) ** 2
    frequency = np.fft.rfftfreq(frames, interval)
    spacing = frequency[1]
    reach = int(np.ceil(4.0 * width / spacing))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * spacing / width) ** 2)
    kernel /= kernel.sum()
    total = power.sum() * spacing
    names = np.array(symbols)
    density = {
        element: np.convolve(power[:, names == element].sum(axis=(1, 2)) / total, kernel, mode="same")
        for element in sorted(set(symbols))
    }
    return Spectrum(frequency, density)
