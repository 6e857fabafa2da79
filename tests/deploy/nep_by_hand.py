"""Neuroevolution potentials from the formulas of their papers, atom by atom, and random files to try them on.

Three bodies by the addition theorem, (2l+1)/(4 pi) sum_jk g_j g_k P_l(cos); more bodies by complex spherical harmonics
and Wigner's 3j symbols; nothing is shared with the program.
"""

from __future__ import annotations

from itertools import product
from math import cos, exp, factorial, pi, sqrt
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

MANY_BODY = ("222", "1111", "112", "123", "233", "134")
ZBL = (0.18175, 3.1998, 0.50986, 0.94229, 0.28022, 0.4029, 0.02817, 0.20162)


def random_nep(
    elements: list[str],
    version: int = 4,
    cutoffs: tuple[float, ...] = (5.0, 4.0),
    n_max: tuple[int, int] = (3, 2),
    basis: tuple[int, int] = (4, 3),
    l_max: int = 4,
    switches: tuple[int, ...] = (2, 1),
    neurons: int = 5,
    zbl: tuple[float, ...] | None = None,
    seed: int = 1,
) -> dict:
    """A random potential; `zbl` is the line of the file, (0, 0) for the flexible one."""
    random, n = np.random.default_rng(seed), len(elements)
    many = [name for name, on in zip(MANY_BODY, switches, strict=False) if on]
    features = n_max[0] + 1 + (n_max[1] + 1) * (l_max + len(many))
    networks = n if version == 4 else 1
    pairs = np.column_stack(
        [random.uniform(0.5, 0.9, n * (n + 1) // 2), random.uniform(1.2, 2.0, n * (n + 1) // 2)]
        + [random.uniform(0.1, 1.0, n * (n + 1) // 2) for _ in range(8)]
    )
    return {
        "elements": elements, "version": version, "cutoffs": cutoffs, "n_max": n_max, "basis": basis,
        "l_max": l_max, "switches": switches, "many": many, "neurons": neurons, "zbl": zbl,
        "w0": random.normal(0.0, 0.7, (networks, neurons, features)),
        "b0": random.normal(0.0, 0.5, (networks, neurons)),
        "w1": random.normal(0.0, 1.0, (networks, neurons)),
        "b1": 0.321,
        "radial": random.normal(0.0, 0.5, (n_max[0] + 1, basis[0] + 1, n, n)),
        "angular": random.normal(0.0, 0.5, (n_max[1] + 1, basis[1] + 1, n, n)),
        "scaler": random.uniform(0.1, 0.6, features),
        "pairs": pairs,
    }  # fmt: skip


def write_nep(path: Path, p: dict) -> Path:
    """The file of a potential, as GPUMD writes it but with all digits."""
    tail, n = "_zbl" * (p["zbl"] is not None), len(p["elements"])
    lines = [f"nep{p['version']}{tail} {n} {' '.join(p['elements'])}"]
    if p["zbl"] is not None:
        lines.append("zbl " + " ".join(map(str, p["zbl"])))
    lines += [
        f"cutoff {' '.join(map(str, p['cutoffs']))} 200 100", f"n_max {p['n_max'][0]} {p['n_max'][1]}",
        f"basis_size {p['basis'][0]} {p['basis'][1]}", f"l_max {p['l_max']} {' '.join(map(str, p['switches']))}",
        f"ANN {p['neurons']} 0",
    ]  # fmt: skip
    networks = [np.concatenate([w.ravel(), b, v]) for w, b, v in zip(p["w0"], p["b0"], p["w1"], strict=True)]
    numbers = [*networks, [p["b1"]], p["radial"].ravel(), p["angular"].ravel(), p["scaler"]]
    if p["zbl"] is not None and not any(p["zbl"][:2]):
        numbers.append(p["pairs"].ravel())
    lines += [f"{value:.16e}" for value in np.concatenate(numbers)]
    path.write_text("\n".join(lines) + "\n")
    return path


def atomic_energies(
    p: dict, vectors: list[np.ndarray], neighbors: list[np.ndarray], types: np.ndarray
) -> np.ndarray:
    """Energies (n,), eV, of atoms with the vectors to their neighbours and the types of these."""
    pairs = zip(vectors, neighbors, types, strict=True)
    return np.array([_energy(p, v, list(map(int, t)), int(i)) for v, t, i in pairs])


def _energy(p: dict, vectors: np.ndarray, neighbors: list[int], center: int) -> float:
    r = np.linalg.norm(vectors, axis=1)
    q = np.array([*_radial(p, r, neighbors, center), *_angular(p, vectors, r, neighbors, center)])
    net = center if p["version"] == 4 else 0
    hidden = np.tanh(p["w0"][net] @ (q * p["scaler"]) - p["b0"][net])
    repelled = sum(repulsion(p, d, center, t) for d, t in zip(r, neighbors, strict=True))
    return float(hidden @ p["w1"][net] - p["b1"] + 0.5 * repelled)


def _cutoff(p: dict, which: int, a: int, b: int) -> float:
    values = np.resize(np.reshape(p["cutoffs"], (-1, 2)), (len(p["elements"]), 2))
    return float(values[a, which] + values[b, which]) / 2


def _functions(p: dict, which: int, r: float, center: int, other: int) -> np.ndarray:
    """Radial functions g_n of one neighbour."""
    cutoff = _cutoff(p, which, center, other)
    if r >= cutoff:
        return np.zeros(p["n_max"][which] + 1)
    x = 2.0 * (r / cutoff - 1.0) ** 2 - 1.0
    size, smooth = p["basis"][which] + 1, 0.5 * (1.0 + cos(pi * r / cutoff))
    basis = [0.5 * (cos(k * np.arccos(np.clip(x, -1, 1))) + 1.0) * smooth for k in range(size)]
    return p["angular" if which else "radial"][:, :, center, other] @ basis


def _radial(p: dict, r: np.ndarray, neighbors: list[int], center: int) -> np.ndarray:
    rows = [_functions(p, 0, d, center, t) for d, t in zip(r, neighbors, strict=True)]
    return np.sum(rows, axis=0) if rows else np.zeros(p["n_max"][0] + 1)


def _angular(p: dict, vectors: np.ndarray, r: np.ndarray, neighbors: list[int], center: int) -> list[float]:
    if not neighbors:
        return [0.0] * (p["n_max"][1] + 1) * (p["l_max"] + len(p["many"]))
    g = np.array([_functions(p, 1, d, center, t) for d, t in zip(r, neighbors, strict=True)])  # (E, n)
    unit = vectors / r[:, None]
    legendre = [np.polynomial.Legendre.basis(degree)(unit @ unit.T) for degree in range(p["l_max"] + 1)]
    q = [
        (2 * degree + 1) / (4 * pi) * (column @ legendre[degree] @ column)
        for degree, column in product(range(1, p["l_max"] + 1), g.T)
    ]
    for name in p["many"]:
        q += [_many_body(name, unit, column) for column in g.T]
    return q


def _many_body(name: str, unit: np.ndarray, g: np.ndarray) -> float:
    if name == "1111":
        a = (g[:, None] * unit).sum(0)
        return float(7 / 15 * (3 / (4 * pi) * a @ a) ** 2)
    a, b, c = ((degree, _moments(degree, unit, g)) for degree in map(int, name))
    total = 0.0
    for m1, m2 in product(range(-a[0], a[0] + 1), range(-b[0], b[0] + 1)):
        m3 = -m1 - m2
        if abs(m3) <= c[0]:
            total += wigner(a[0], b[0], c[0], m1, m2, m3) * a[1][m1] * b[1][m2] * c[1][m3]
    assert abs(total.imag) < 1e-10
    return float(total.real)


def _moments(degree: int, unit: np.ndarray, g: np.ndarray) -> dict[int, complex]:
    """Sums of complex spherical harmonics with the phase of Condon and Shortley."""
    found = {}
    x, y, z = unit.T
    for m in range(degree + 1):
        polynomial = np.polynomial.Legendre.basis(degree).deriv(m)
        norm = sqrt((2 * degree + 1) / (4 * pi) * factorial(degree - m) / factorial(degree + m))
        found[m] = (g * (-1) ** m * norm * polynomial(z) * (x + 1j * y) ** m).sum()
        found[-m] = (-1) ** m * np.conj(found[m])
    return found


def wigner(a: int, b: int, c: int, x: int, y: int, z: int) -> float:
    """The 3j symbol by Racah's formula."""
    if x + y + z or c > a + b or c < abs(a - b):
        return 0.0
    f = factorial
    delta = f(a + b - c) * f(a - b + c) * f(b + c - a) / f(a + b + c + 1)
    root = sqrt(delta * f(a + x) * f(a - x) * f(b + y) * f(b - y) * f(c + z) * f(c - z))
    total = 0.0
    for k in range(a + b + c + 1):
        parts = (k, c - b + x + k, c - a - y + k, a + b - c - k, a - x - k, b + y - k)
        if min(parts) >= 0:
            total += (-1) ** k / np.prod([float(f(n)) for n in parts])
    return (-1) ** (a - b - z) * root * total


def repulsion(p: dict, r: float, a: int, b: int) -> float:
    """Repulsion, eV, of atoms of two types at a distance."""
    if p["zbl"] is None or r >= p["cutoffs"][1]:
        return 0.0
    first, second = sorted((a, b))
    n, zbl = len(p["elements"]), p["zbl"]
    if not any(zbl[:2]):
        row = list(zip(*np.triu_indices(n), strict=True)).index((first, second))
        inner, outer, *screening = p["pairs"][row]
    else:
        (inner, outer), screening = zbl[:2], ZBL
    z = [atomic_numbers[p["elements"][t]] for t in (a, b)]
    x = 2.134563 * (z[0] ** 0.23 + z[1] ** 0.23) * r
    phi = sum(u * exp(-v * x) for u, v in zip(screening[::2], screening[1::2], strict=True))
    if r >= outer:
        return 0.0
    smooth = 1.0 if r < inner else 0.5 * (1.0 + cos(pi * (r - inner) / (outer - inner)))
    return 14.399645 * z[0] * z[1] / r * phi * smooth
