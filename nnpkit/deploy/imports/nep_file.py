"""``nep.txt``, the file of a neuroevolution potential (NEP) of GPUMD: its words and numbers, read and checked.

NEP3: Z. Fan et al., J. Chem. Phys. 157, 114801 (2022); NEP4: K. Song et al., Nat. Commun. 15, 10208 (2024); the
universal and the flexible repulsion: J. Liu et al., Phys. Rev. B 108, 054312 (2023). Arrays are in the order of the
file, and mean what these papers call them:

* descriptor: radial functions n first, then for every l (or many-body term) of the file all angular n;
* energy of an atom: ``sum w1 tanh(w0 (scaler * q) - b0) - b1``, eV;
* ``zbl[t][u]``: inner and outer distance (Å), then four pairs of amplitude and exponent of the screening.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers

from nnpkit.data.formats.text_files import read_text
from nnpkit.deploy.imports.nep_repulsion import flexible_zbl, universal_zbl
from nnpkit.errors import InputError

__all__ = ["MANY_BODY", "MAX_FLEXIBLE", "NepFile", "NepHeader", "NepLimits", "is_nep_file", "read_nep_file"]

MANY_BODY = ("222", "1111", "112", "123", "233", "134")
"""Terms of four and five bodies by their l, in the order of the line ``l_max`` and of the descriptor."""
MAX_FLEXIBLE = 10
"""Elements that the flexible repulsion may have in GPUMD."""


class NepLimits(NamedTuple):
    """What GPUMD has room for."""

    elements: int = 94  # H to Pu
    cutoff: float = 100.0  # Å
    basis_size: int = 16
    n_max_angular: int = 16
    l_max: int = 8
    neurons: int = 120
    features: int = 103
    angular_features: int = 90


_KINDS = {"nep3": (3, False), "nep3_zbl": (3, True), "nep4": (4, False), "nep4_zbl": (4, True)}
_REFUSED = {
    "dipole": "dipoles, no energies", "polarizability": "polarizabilities, no energies",
    "charge": "charges and electrostatics", "vdw": "dispersion interactions",
    "temperature": "an electronic temperature", "spin": "magnetic moments",
}  # fmt: skip
_READ = "nep3, nep3_zbl, nep4 or nep4_zbl"


@dataclass
class NepHeader:
    """What stands above the numbers; T elements."""

    version: int  # 3: one network for all elements, 4: one for each
    elements: list[str]
    cutoffs: np.ndarray  # (T, 2) Å, radial and angular of each element; a pair has the mean
    neighbors: tuple[int, int]  # most that an atom may have within the cutoffs, radial and angular
    n_max: tuple[int, int]
    basis_size: tuple[int, int]
    l_max: int
    many_body: tuple[str, ...]  # of MANY_BODY
    neurons: int

    @property
    def n_features(self) -> int:
        """Length of the descriptor."""
        return self.n_max[0] + 1 + (self.n_max[1] + 1) * (self.l_max + len(self.many_body))


@dataclass
class NepFile(NepHeader):
    """What a ``nep.txt`` says; T elements, N neurons, D features."""

    w0: np.ndarray  # (T, N, D); of NEP3 the same for all elements
    b0: np.ndarray  # (T, N)
    w1: np.ndarray  # (T, N) eV
    b1: float  # eV
    c_radial: np.ndarray  # (T, T, n_max + 1, basis_size + 1), centre first
    c_angular: np.ndarray
    scaler: np.ndarray  # (D,)
    zbl: np.ndarray | None  # (T, T, 10)


def is_nep_file(path: str | Path) -> bool:
    """Whether `path` is a file that begins as a ``nep.txt`` does, or is called like one."""
    path = Path(path)
    if not path.is_file():
        return False
    if path.name == "nep.txt":
        return True
    with open(path, "rb") as stream:
        words = stream.read(64).split()
    return bool(words) and words[0][:4] in (b"nep", b"nep2", b"nep3", b"nep4", b"nep5")


class _Lines:
    """The lines of the file, one after the other, for messages with their numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rows = [line.split() for line in read_text(path).splitlines()]
        self.rows = [(number, words) for number, words in enumerate(rows, start=1) if words]
        self.at = 0
        if not self.rows:
            raise InputError("the file is empty", where=str(path), expected=f"a first line with {_READ}")

    @property
    def where(self) -> str:
        """File and line that was read last."""
        return f"{self.path}, line {self.rows[min(self.at, len(self.rows)) - 1][0]}"

    def take(self, keyword: str = "") -> list[str]:
        """Words of the next line, without its keyword."""
        if self.at == len(self.rows):
            raise InputError(
                f"the file ends before the line {keyword}", where=str(self.path),
                hint="it is truncated; copy it again",
            )  # fmt: skip
        words, self.at = self.rows[self.at][1], self.at + 1
        if words[0].startswith("spin_"):
            raise InputError(
                f"the line {words[0]}: a model with magnetic moments",
                where=self.where,
                expected=f"one of kind {_READ}",
            )
        if keyword and words[0] != keyword:
            raise InputError(f"found {words[0]!r}", where=self.where, expected=f"the line {keyword}")
        return words[1:] if keyword else words

    def whole(self, word: str, name: str, low: int, high: int) -> int:
        """A whole number within bounds."""
        try:
            value = int(word)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise InputError(
                f"{name} is {word}", where=self.where, expected=f"a whole number from {low} to {high}"
            )
        return value

    def number(self, word: str, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number within bounds."""
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            bounds = f" from {low:g} to {high:g}" if math.isfinite(low) else ""
            raise InputError(f"{name} is {word}", where=self.where, expected=f"a number{bounds}")
        return value

    def numbers(self, count: int) -> np.ndarray:
        """All numbers that are left, one a line: as many as the header announces."""
        rows, self.at = self.rows[self.at :], len(self.rows)
        if len(rows) != count:
            raise InputError(
                f"{len(rows)} numbers follow the header", where=str(self.path),
                expected=f"{count}, as the header says",
                hint="the file is truncated" if len(rows) < count else "the header is of another file",
            )  # fmt: skip
        values = np.zeros(count)
        for k, (line, words) in enumerate(rows):
            try:
                (values[k],) = map(float, words)
            except ValueError:
                values[k] = math.nan
            if not math.isfinite(values[k]):
                raise InputError(
                    f"found {' '.join(words)[:40]!r}", where=f"{self.path}, line {line}",
                    expected="one finite number",
                )  # fmt: skip
        return values


def read_nep_file(path: str | Path) -> NepFile:
    """Read a ``nep.txt``.

    Raises
    ------
    InputError
        With file and line for anything that is damaged, and with the reason for models of other kinds.
    """
    lines, limits = _Lines(Path(path)), NepLimits()
    version, has_zbl, elements = _first_line(lines, limits)
    repulsion = _zbl_line(lines, len(elements)) if has_zbl else None
    cutoffs, neighbors = _cutoff_line(lines, len(elements), limits)
    n_max = _two(lines, "n_max", (limits.features - 1, limits.n_max_angular))
    basis_size = _two(lines, "basis_size", (limits.basis_size, limits.basis_size))
    l_max, many_body = _l_max_line(lines, limits)
    neurons = _neurons(lines, limits)
    header = NepHeader(version, elements, cutoffs, neighbors, n_max, basis_size, l_max, many_body, neurons)
    found = _with_numbers(header, lines, limits, flexible=repulsion == "flexible")
    if isinstance(repulsion, tuple):
        found.zbl = universal_zbl(elements, *repulsion)
    if found.zbl is not None:
        _check_zbl(found.zbl, float(cutoffs[:, 1].max()), str(path))
    return found


def _first_line(lines: _Lines, limits: NepLimits) -> tuple[int, bool, list[str]]:
    """Version, whether there is a repulsion, and elements."""
    words = lines.take()
    if words[0] not in _KINDS:
        what = next((what for word, what in _REFUSED.items() if word in words[0]), None)
        if what is None and words[0].startswith("nep5"):
            what = "the form of NEP5"
        if what is None and words[0].split("_")[0] in ("nep", "nep2"):
            what = "the form of NEP2, which GPUMD reads no more either"
        raise InputError(
            f"a model {words[0]} has {what}" if what else f"the file begins with {words[0][:40]!r}", where=lines.where,
            expected=f"a potential of kind {_READ}",
        )  # fmt: skip
    if len(words) < 3:
        raise InputError("no elements", where=lines.where, expected=f"{words[0]}, their number and symbols")
    n, elements = lines.whole(words[1], "the number of elements", 1, limits.elements), words[2:]
    if len(elements) != n or len(set(elements)) != n:
        raise InputError(
            f"{len(elements)} symbols ({' '.join(elements)[:60]})", where=lines.where,
            expected=f"{n} different ones",
        )  # fmt: skip
    for element in elements:
        if not 0 < atomic_numbers.get(element, 0) <= limits.elements:
            raise InputError(f"{element!r} is no element from H to Pu", where=lines.where)
    return *_KINDS[words[0]], elements


def _zbl_line(lines: _Lines, n: int) -> tuple[float, float, float | None] | str:
    """Inner and outer distance and the factor of covalent radii, or ``flexible``."""
    words = lines.take("zbl")
    if len(words) not in (2, 3):
        raise InputError(
            f"zbl with {len(words)} numbers", where=lines.where,
            expected="inner and outer distance, and perhaps a factor of covalent radii",
        )  # fmt: skip
    inner, outer = (lines.number(word, "a distance of zbl", 0.0, 100.0) for word in words[:2])
    factor = lines.number(words[2], "the factor of zbl", 1e-6, 100.0) if len(words) == 3 else None
    if inner == outer == 0.0:
        if n > MAX_FLEXIBLE:
            raise InputError(
                f"a flexible zbl for {n} elements", where=lines.where, expected=f"at most {MAX_FLEXIBLE}"
            )
        return "flexible"
    if inner >= outer:
        raise InputError(f"zbl from {inner:g} to {outer:g} Å", where=lines.where, expected="inner < outer")
    return inner, outer, factor


def _cutoff_line(lines: _Lines, n: int, limits: NepLimits) -> tuple[np.ndarray, tuple[int, int]]:
    """Cutoffs of each element, and the numbers of neighbours at the end of the line."""
    words = lines.take("cutoff")
    if len(words) not in (4, 2 * n + 2):
        raise InputError(
            f"cutoff with {len(words)} numbers", where=lines.where,
            expected="a radial and an angular cutoff" + (f", or {n} of both" if n > 1 else "")
            + ", and two numbers of neighbours",
            hint="factors of covalent radii (use_typewise_cutoff), which GPUMD has given up, are not read"
            if len(words) == 7 else None,
        )  # fmt: skip
    values = [lines.number(word, "a cutoff", 0.0, limits.cutoff) for word in words[:-2]]
    cutoffs = np.resize(np.array(values).reshape(-1, 2), (n, 2))
    if np.any(cutoffs[:, 1] <= 0.0) or np.any(cutoffs[:, 1] > cutoffs[:, 0]):
        raise InputError(
            "cutoff " + " ".join(words), where=lines.where, expected="0 < angular <= radial cutoff"
        )
    counts = [int(lines.number(word, "the number of neighbours", 0.0, 1e6)) for word in words[-2:]]
    return cutoffs, (counts[0], counts[1])


def _two(lines: _Lines, keyword: str, largest: tuple[int, int]) -> tuple[int, int]:
    """A radial and an angular whole number."""
    words = lines.take(keyword)
    if len(words) != 2:
        raise InputError(f"{keyword} {' '.join(words)}", where=lines.where, expected="two whole numbers")
    radial, angular = (
        lines.whole(word, f"the {kind} {keyword}", 0, high)
        for word, kind, high in zip(words, ("radial", "angular"), largest, strict=True)
    )
    return radial, angular


def _l_max_line(lines: _Lines, limits: NepLimits) -> tuple[int, tuple[str, ...]]:
    """Largest l of three bodies, and the terms of four and five bodies that are switched on."""
    words = lines.take("l_max")
    if not 3 <= len(words) <= 1 + len(MANY_BODY):
        raise InputError(
            f"l_max {' '.join(words)}", where=lines.where,
            expected=f"the largest l and switches of {', '.join(MANY_BODY)}, the last four of which may be missing",
        )  # fmt: skip
    l_max = lines.whole(words[0], "l_max", 0, limits.l_max)
    switches = [
        lines.whole(word, f"the switch of {name}", 0, 2)
        for word, name in zip(words[1:], MANY_BODY, strict=False)
    ]
    many_body = tuple(name for name, on in zip(MANY_BODY, switches, strict=False) if on)
    for name in many_body:
        if max(map(int, name)) > l_max:
            raise InputError(
                f"the term {name} with l_max {l_max}", where=lines.where, expected=f"l_max of at least {max(name)}"
            )  # fmt: skip
    return l_max, many_body


def _neurons(lines: _Lines, limits: NepLimits) -> int:
    """Neurons of the one hidden layer."""
    words = lines.take("ANN")
    if len(words) != 2 or words[1] != "0":
        raise InputError(
            f"ANN {' '.join(words)}", where=lines.where,
            expected="ANN, the number of neurons and 0: one hidden layer",
        )  # fmt: skip
    return lines.whole(words[0], "the number of neurons", 1, limits.neurons)


def _with_numbers(header: NepHeader, lines: _Lines, limits: NepLimits, flexible: bool) -> NepFile:
    """The whole file: the header with the arrays that stand below it."""
    n, neurons, features = len(header.elements), header.neurons, header.n_features
    angular = features - header.n_max[0] - 1
    if features > limits.features or angular > limits.angular_features:
        raise InputError(
            f"{features} features, {angular} of them angular", where=str(lines.path),
            expected=f"at most {limits.features} and {limits.angular_features}, as in GPUMD",
        )  # fmt: skip
    networks, size = (n if header.version == 4 else 1), (features + 2) * neurons
    shapes = [(k + 1, b + 1, n, n) for k, b in zip(header.n_max, header.basis_size, strict=True)]
    counts = [networks * size, 1, *map(math.prod, shapes), features, 5 * n * (n + 1) * flexible]
    network, b1, *mixing, scaler, zbl = np.split(lines.numbers(sum(counts)), np.cumsum(counts)[:-1])
    table = np.broadcast_to(network.reshape(networks, size), (n, size))
    w0, b0, w1 = np.split(table, [features * neurons, (features + 1) * neurons], axis=1)
    c_radial, c_angular = (
        values.reshape(shape).transpose(2, 3, 0, 1) for values, shape in zip(mixing, shapes, strict=True)
    )
    return NepFile(
        **vars(header), w0=w0.reshape(n, neurons, features), b0=b0, w1=w1, b1=float(b1[0]), c_radial=c_radial,
        c_angular=c_angular, scaler=scaler, zbl=flexible_zbl(zbl, n) if flexible else None,
    )  # fmt: skip


def _check_zbl(table: np.ndarray, angular_cutoff: float, where: str) -> None:
    """InputError for a repulsion that makes no sense, or that GPUMD would cut off before its end."""
    inner, outer = table[..., 0], table[..., 1]
    if np.any(inner < 0.0) or np.any((inner >= outer) & (outer > 0.0)):
        raise InputError(
            "a pair of the flexible zbl has no 0 <= inner < outer distance", where=where,
            hint="the file is damaged",
        )  # fmt: skip
    if float(outer.max()) > angular_cutoff:
        raise InputError(
            f"zbl reaches {outer.max():g} Å and the angular cutoff {angular_cutoff:g} Å", where=where,
            expected="an angular cutoff at least as long",
            hint="GPUMD cuts the repulsion off there, and its energy jumps",
        )  # fmt: skip
