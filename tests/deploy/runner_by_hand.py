"""A RuNNer potential written line by line and evaluated by plain loops: the judge of the reader.

Nothing here comes from the package. Lengths are in bohr and energies in hartree unless `length` and `energy`
say otherwise.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

BOHR, HARTREE = 0.529177210903, 27.211386245988
NUMBER = {"H": 1, "O": 8}
# (center, type, neighbours, parameters as in the file), in the order of the format
FUNCTIONS = {
    "H": [
        ("H", 1, "H", (6.0,)),
        ("H", 2, "H", (0.1, 0.0, 6.0)),
        ("H", 2, "O", (0.1, 0.0, 6.0)),
        ("H", 2, "H", (0.4, 0.8, 6.0)),
        ("H", 2, "O", (0.05, 0.0, 7.0)),
        ("H", 3, "HO", (0.01, -1.0, 1.0, 6.0)),
        ("H", 3, "OO", (0.01, -1.0, 1.0, 6.0)),
        ("H", 3, "HO", (0.01, 1.0, 1.0, 6.0)),
        ("H", 3, "HO", (0.01, -1.0, 4.0, 6.0)),
        ("H", 3, "HO", (0.01, 1.0, 1.0, 6.0, 0.5)),
        ("H", 9, "HH", (0.02, 1.0, 2.5, 6.0)),
    ],
    "O": [
        ("O", 2, "H", (0.2, 0.0, 6.5)),
        ("O", 2, "O", (0.2, 1.0, 6.5)),
        ("O", 3, "HH", (0.03, 1.0, 2.0, 6.5)),
        ("O", 9, "HO", (0.03, -1.0, 16.0, 6.5)),
        ("O", 9, "HH", (0.05, -1.0, 1.0, 6.5)),
    ],
}
ACTIVATION = {
    "t": math.tanh, "l": lambda x: x, "s": lambda x: 1 / (1 + math.exp(-x)), "p": lambda x: math.log(1 + math.exp(x)),
    "g": lambda x: math.exp(-0.5 * x * x), "c": math.cos, "r": lambda x: max(x, 0.0),
    "S": lambda x: 1 - 1 / (1 + math.exp(-x)), "e": lambda x: math.exp(-x), "h": lambda x: x * x,
}  # fmt: skip


def cutoff_function(r: float, rc: float, kind: int, alpha: float) -> float:
    if r >= rc:
        return 0.0
    if kind in (2, 3):
        return math.tanh(1 - r / rc) ** 3 / (math.tanh(1.0) ** 3 if kind == 3 else 1.0)
    if kind == 4:
        return math.exp(1 - 1 / (1 - (r / rc) ** 2))
    x = (r - alpha * rc) / (rc - alpha * rc)
    if kind == 0 or x < 0:
        return 1.0
    return {
        1: 0.5 * (math.cos(math.pi * x) + 1),
        5: 1 + x**2 * (2 * x - 3),
        6: 1 + x**3 * (x * (15 - 6 * x) - 10),
        7: 1 + x**4 * (x * (x * (20 * x - 70) + 84) - 35),
        8: 1 + x**5 * (x * (x * ((315 - 70 * x) * x - 540) + 420) - 126),
    }[kind]


@dataclass
class HandPotential:
    """The potential and the ways in which it can be written."""

    cutoff_type: int = 1
    alpha: float = 0.0
    scaling: tuple[str, ...] = ("scale", "center")
    letters: str = "ttl"
    nodes: dict[str, list[int]] = field(default_factory=lambda: {"H": [4, 3], "O": [4, 3]})
    normalize_nodes: bool = False
    normalisation: tuple[float, float] | None = None  # mean_energy, conv_energy
    atom_energy: dict[str, float] = field(default_factory=dict)
    bare_weights: bool = False
    length: float = BOHR  # Å
    energy: float = HARTREE  # eV
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        random = np.random.default_rng(11)
        self.range = (-0.3, 1.2)
        self.table, self.layers = {}, {}
        for element, functions in FUNCTIONS.items():
            n = len(functions)
            low, width = random.uniform(0, 0.3, n), random.uniform(1.0, 3.0, n)
            self.table[element] = np.stack([low, low + width, low + 0.3 * width, 0.4 * width])
            sizes = [n, *self.nodes[element], 1]
            self.layers[element] = [
                (random.uniform(-0.5, 0.5, (b, a)), random.uniform(-0.5, 0.5, b))
                for a, b in itertools.pairwise(sizes)
            ]

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["# settings", "number_of_elements 2  # two", "elements O H ! any order", *self.extra]
        lines += [
            f"{k}_symmetry_functions" if k != "sigma" else "scale_symmetry_functions_sigma"
            for k in self.scaling
        ]
        lines += [f"scale_min_short {self.range[0]}", f"scale_max_short {self.range[1]}"]
        lines += [f"cutoff_type {self.cutoff_type} {self.alpha}"]
        hidden = self.nodes["H"]
        lines += [
            f"global_hidden_layers_short {len(hidden)}",
            f"global_nodes_short {' '.join(map(str, hidden))}",
        ]
        lines += [f"global_activation_short {' '.join(self.letters)}"]
        lines += ["normalize_nodes"] * self.normalize_nodes
        lines += [f"atom_energy {e} {value!r}" for e, value in self.atom_energy.items()]
        if self.normalisation:
            mean, scale = (f"{x:.16E}" for x in self.normalisation)
            lines += [f"mean_energy {mean}", f"conv_energy {scale.replace('E', 'D')}", "conv_length 3.0"]
        functions = [f for group in FUNCTIONS.values() for f in group]
        for k in np.random.default_rng(2).permutation(len(functions)):
            center, kind, neighbors, parameters = functions[k]
            elements = "  ".join(reversed(neighbors))
            lines.append(f"symfunction_short {center} {kind} {elements}   {'  '.join(map(repr, parameters))}")
        (folder / "input.nn").write_text("\n".join(lines) + "\n")
        rows = ["# minimum maximum mean sigma"]
        for number, element in enumerate(FUNCTIONS, start=1):
            rows += [
                f"{number:5d} {k:5d} " + " ".join(f"{value:.17g}" for value in column)
                for k, column in enumerate(self.table[element].T, start=1)
            ]
        (folder / "scaling.data").write_text("\n".join(rows) + "\n  -1.5  0.7\n")
        for element, layers in self.layers.items():
            (folder / f"weights.{NUMBER[element]:03d}.data").write_text(self._weights(layers))
        return folder

    def _weights(self, layers: list[tuple[np.ndarray, np.ndarray]]) -> str:
        rows: list[str] = []
        for n, (weight, bias) in enumerate(layers, start=1):
            for j, i in itertools.product(range(weight.shape[1]), range(weight.shape[0])):
                rows.append(f"{weight[i, j]:.17g} a {len(rows) + 1} {n - 1} {j + 1} {n} {i + 1}")
            rows += [f"{b:.17g} b {len(rows) + i} {n} {i}" for i, b in enumerate(bias, start=1)]
        return "\n".join(row.split()[0] if self.bare_weights else row for row in rows) + "\n"

    def symmetry_functions(
        self, symbols: list[str], positions: np.ndarray, cell: np.ndarray
    ) -> list[np.ndarray]:
        """Raw values of every atom; positions and cell in the file's unit of length."""
        shifts = [np.array(s) @ cell for s in itertools.product((-2, -1, 0, 1, 2), repeat=3)]
        values = []
        for i, center in enumerate(symbols):
            near = [
                (symbols[j], positions[j] + shift - positions[i])
                for j in range(len(symbols)) for shift in shifts
                if 1e-9 < np.linalg.norm(positions[j] + shift - positions[i]) < 7.0
            ]  # fmt: skip
            values.append(np.array([self._value(f, near) for f in FUNCTIONS[center]]))
        return values

    def _value(self, function: tuple, near: list[tuple[str, np.ndarray]]) -> float:
        _, kind, neighbors, p = function
        fc = lambda r, rc: cutoff_function(r, rc, self.cutoff_type, self.alpha)  # noqa: E731
        if kind <= 2:
            eta, shift, rc = (0.0, 0.0, *p) if kind == 1 else p
            distances = [np.linalg.norm(v) for e, v in near if e == neighbors]
            return sum(math.exp(-eta * (r - shift) ** 2) * fc(r, rc) for r in distances)
        eta, lam, zeta, rc = p[:4]
        shift = p[4] if len(p) > 4 else 0.0
        total = 0.0
        for (e_j, v_j), (e_k, v_k) in itertools.combinations(near, 2):
            if sorted((e_j, e_k)) != sorted(neighbors):
                continue
            r_j, r_k, r_jk = np.linalg.norm(v_j), np.linalg.norm(v_k), np.linalg.norm(v_j - v_k)
            base = max(0.0, 1 + lam * (v_j @ v_k) / (r_j * r_k))
            sides = (r_j, r_k, r_jk) if kind == 3 else (r_j, r_k)
            factor = math.prod(math.exp(-eta * (r - shift) ** 2) * fc(r, rc) for r in sides)
            total += 2 ** (1 - zeta) * base**zeta * factor
        return total

    def atomic_energies(self, symbols: list[str], positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Energies (eV) of atoms at positions (Å) in a periodic cell."""
        raw = self.symmetry_functions(symbols, positions / self.length, cell / self.length)
        mean, per_unit = self.normalisation or (0.0, 1.0)
        energies = []
        for element, values in zip(symbols, raw, strict=True):
            low, high, average, sigma = self.table[element]
            lower, upper = self.range
            x = {
                (): values,
                ("center",): values - average,
                ("scale",): lower + (upper - lower) * (values - low) / (high - low),
                ("scale", "center"): lower + (upper - lower) * (values - average) / (high - low),
                ("sigma",): lower + (upper - lower) * (values - average) / sigma,
            }[self.scaling]
            for (weight, bias), letter in zip(self.layers[element], self.letters, strict=True):
                divisor = len(x) if self.normalize_nodes else 1.0
                x = np.array([ACTIVATION[letter](y) for y in (weight @ x + bias) / divisor])
            energies.append(x[0] / per_unit + mean + self.atom_energy.get(element, 0.0))
        return np.array(energies) * self.energy
