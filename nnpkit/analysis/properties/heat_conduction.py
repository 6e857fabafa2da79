"""Thermal conductivity from the heat flux in equilibrium, with an error bar from its spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnpkit.errors import InputError

__all__ = ["LEAST_SAMPLES", "Conductivity", "conductivity"]

LEAST_SAMPLES = 1000
"""Samples of the heat flux that it takes."""
_KB = 8.617333262e-5  # eV/K
_W_MK = 1.602176634e-19 / 1e-10 / 1e-12  # W/(m K) per eV/(Å ps K)
_BAND = 0.3
"""THz, frequencies that are looked at: carriers that live for picoseconds make a narrow peak at zero, which a series
for all frequencies smooths away. Crystalline argon at 40 K had 0.16 of 0.27 W/(m K) with the band of nine tenths of
the power."""
_LEAST = 50  # of these


@dataclass
class Conductivity:
    """Thermal conductivity by Green and Kubo, read from the spectrum of the heat flux at zero frequency."""

    value: float  # W/(m K), mean of the three directions
    error: float  # standard error
    frequency: np.ndarray  # (F,) THz
    spectrum: np.ndarray  # (F,) W/(m K), of the run; the value is what its smooth part has at zero
    smooth: np.ndarray  # (F,) W/(m K)
    coefficients: int  # that the smooth part has
    several: bool  # elements, whose currents were taken out


def conductivity(
    flux: np.ndarray, interval: float, volume: float, temperature: float, currents: np.ndarray | None = None
) -> Conductivity:
    """Thermal conductivity ``1 / (V k T^2)`` times the integral of the autocorrelation of the heat flux.

    The integral is half of the spectrum of the flux at zero frequency. Its logarithm is a smooth function plus noise of
    known variance, so that few coefficients of its Fourier series (of its cepstrum) are kept, as many as Akaike's
    criterion asks for, and the error follows (Ercole, Marcolongo and Baroni, Sci. Rep. 7, 15835 (2017)).

    Parameters
    ----------
    flux : (T, 3) array
        Of the whole cell, eV Å/ps, equally spaced in time.
    interval : float
        ps between samples; a few fs.
    volume : float
        Å³.
    temperature : float
        K.
    currents : (T, K, 3) array, optional
        Sums of the velocities of each element, Å/ps. What of the flux follows them at equal times is taken out: how
        energy is divided between elements is arbitrary, and in a crystal no element goes anywhere.

    Raises
    ------
    InputError
        If the run is too short, or nothing flows.
    """
    if len(flux) < LEAST_SAMPLES:
        raise InputError(
            f"{len(flux)} samples of the heat flux are too few for a conductivity",
            expected=f"{LEAST_SAMPLES} or more",
        )
    heat = np.asarray(flux, dtype=np.float64)
    if currents is not None:
        columns = np.moveaxis(np.asarray(currents, dtype=np.float64), 1, 2).reshape(3 * len(heat), -1)
        heat = (
            heat.reshape(-1) - columns @ np.linalg.lstsq(columns, heat.reshape(-1), rcond=None)[0]
        ).reshape(-1, 3)
    if not heat.any():
        raise InputError("the heat flux is zero")
    factor = _W_MK / (2.0 * volume * _KB * temperature**2)
    power = factor * (np.abs(np.fft.rfft(heat, axis=0)) ** 2).mean(axis=1) * interval / len(heat)
    frequency = np.fft.rfftfreq(len(heat), interval)
    power, frequency = power[1:-1], frequency[1:-1]  # these have the distribution of all others
    kept = min(len(power), max(_LEAST, int(np.searchsorted(frequency, _BAND))))
    power, frequency = power[:kept], frequency[:kept]
    value, error, smooth = _cepstral(power, heat.shape[1])
    return Conductivity(value, error, frequency, power, np.exp(smooth[0]), smooth[1], currents is not None)


def _cepstral(power: np.ndarray, directions: int) -> tuple[float, float, tuple[np.ndarray, int]]:
    """Value at zero frequency of a spectrum averaged over `directions`, its error, logarithm and size of the series."""
    from scipy.fft import dct, idct
    from scipy.special import digamma, polygamma

    # of a mean of so many exponentially distributed numbers, the logarithm has this bias and this variance
    bias, variance = float(digamma(directions)) - np.log(directions), float(polygamma(1, directions))
    size = len(power)
    series = dct(np.log(power) - bias, type=2) / (2.0 * size)  # log S(f) = c0 + 2 sum c_n cos(pi n f / f_max)
    left = np.concatenate([np.cumsum((series**2)[::-1])[::-1][1:], [0.0]])
    kept = int(np.argmin(2.0 * size * left / variance + 2.0 * np.arange(1, size + 1))) + 1
    kept += (
        kept // 2
    )  # of 150 noises of known memory the criterion's own choice was off by 1.5 errors, this by 1.1
    some = np.where(np.arange(size) < kept, series, 0.0)
    logarithm = float(some[0] + 2.0 * some[1:].sum())
    spread = float(np.sqrt(variance * (4.0 * kept - 2.0) / (2.0 * size)))
    value = float(np.exp(logarithm))
    return value, value * spread, (idct(some * 2.0 * size, type=2), kept)
