"""``input.nn``, the settings file of RuNNer and n2p2: its keywords, and the symmetry functions it defines.

RuNNer: J. Behler, Angew. Chem. Int. Ed. 56, 12828 (2017); n2p2: A. Singraber, J. Behler, C. Dellago, J. Chem.
Theory Comput. 15, 1827 (2019). Where the two differ (which atomic energies count, keywords per element) the
notes of `nnpkit.deploy.imports.runner_potential` say what is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ase.data import atomic_numbers

from nnpkit.errors import InputError
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.models.cutoff import CUTOFF_KINDS

__all__ = [
    "RunnerFunction", "RunnerSettings", "SettingsLine", "cutoff_function_of", "parse_number",
    "parse_symmetry_function", "read_settings", "symmetry_functions",
]  # fmt: skip

_TYPES = {1: "G2", 2: "G2", 3: "G3", 9: "G9"}  # type 1 is type 2 with eta = shift = 0
_PARAMETERS = {1: 1, 2: 3, 3: 4, 9: 4}  # numbers that follow the elements; the shift of 3 and 9 is optional
_REPEATED = (
    "symfunction_short", "element_symfunction_short", "global_symfunction_short", "atom_energy", "fixed_gausswidth",
    "initial_hardness",
)  # fmt: skip
_REFUSED = {
    "use_electrostatics": "electrostatic interactions", "use_fixed_charges": "fixed charges",
    "use_vdw": "dispersion corrections",
}  # fmt: skip
_GENERATION = ("nnp_generation", "nnp_gen", "nnp_type", "nnp_type_gen")
_OF_CHARGES = ("initial_hardness", "fixed_gausswidth", "screen_electrostatics", "ewald_prec")
_ONLY = {  # keywords of which only some values describe a short-range potential
    "nn_type": ("0", "1", "2"), "nn_type_short": ("1",), "committee_mode": ("disabled",), "kspace_solver": ("ewald",),
}  # fmt: skip


class SettingsLine(NamedTuple):
    """One occurrence of a keyword."""

    number: int
    words: list[str]  # without the keyword


@dataclass
class RunnerSettings:
    """Keywords of an ``input.nn`` with their lines, and its comments."""

    path: Path
    keywords: dict[str, list[SettingsLine]] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)

    def __contains__(self, keyword: str) -> bool:
        """Whether the keyword is there."""
        return keyword in self.keywords

    def where(self, line: SettingsLine) -> str:
        """File and line number for messages."""
        return f"{self.path}, line {line.number}"

    def words(self, keyword: str, default: Sequence[str] | None = None) -> list[str]:
        """Arguments of a keyword that stands once; InputError if it is missing and has no default."""
        if keyword not in self.keywords:
            if default is None:
                raise InputError(f"the keyword {keyword} is missing", where=str(self.path))
            return list(default)
        first = self.keywords[keyword][0]
        if not first.words:
            raise InputError(f"{keyword} has no value", where=self.where(first))
        return first.words

    def number(self, keyword: str, default: float | None = None) -> float:
        """First argument of a keyword as a number."""
        if default is not None and keyword not in self.keywords:
            return default
        word = self.words(keyword)[0]
        return parse_number(word, self.where(self.keywords[keyword][0]))

    @property
    def generation(self) -> int:
        """Generation of the potential: 2 without charges, 3 or 4 with them; InputError for others or contradictions."""
        stated = {}
        for keyword in _GENERATION:
            for line in self.keywords.get(keyword, []):
                word = (line.words[:1] or [""])[0].upper().removesuffix("-HDNNP").removesuffix("G")
                stated[{"0": "2", "1": "2"}.get(word, word)] = (keyword, line)
        for word, (keyword, line) in stated.items():
            if word not in ("2", "3", "4") or len(stated) > 1:
                raise InputError(
                    f"{keyword} {' '.join(line.words[:1])} is not supported" if len(stated) == 1
                    else "the keywords of the generation contradict each other",
                    where=self.where(line), expected="a high-dimensional neural network potential (2G, 3G or 4G)",
                )  # fmt: skip
        return int(next(iter(stated), "2"))

    @property
    def elements(self) -> list[str]:
        """Elements in order of atomic number: the order of all element indices of the format."""
        elements = self.words("elements")
        where = self.where(self.keywords["elements"][0])
        unknown = [e for e in elements if not atomic_numbers.get(e)]
        if unknown or len(set(elements)) != len(elements):
            raise InputError(
                f"elements {' '.join(elements)}", where=where, expected="different chemical symbols"
            )
        if self.number("number_of_elements", len(elements)) != len(elements):
            raise InputError(
                f"{len(elements)} elements, but number_of_elements {self.words('number_of_elements')[0]}",
                where=where,
            )
        return sorted(elements, key=atomic_numbers.__getitem__)


def parse_number(word: str, where: str) -> float:
    """Finite number as C or Fortran write it (1.0E-3, 1.0D-3); InputError otherwise."""
    try:
        number = float(word.replace("D", "E").replace("d", "e"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{word!r} is not a number", where=where)
    return number


def read_settings(path: str | Path) -> RunnerSettings:
    """Keywords of an ``input.nn``.

    Raises
    ------
    InputError
        If the file is missing, repeats a keyword that may stand once, or asks for something that is not
        supported and would change energies: electrostatics, other generations of potentials, pair networks.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    settings = RunnerSettings(path)
    for number, raw in enumerate(text.splitlines(), start=1):
        code = raw.partition("#")[0].partition("!")[0]
        if len(code) < len(raw):
            settings.comments.append(raw[len(code) :].lstrip("#! "))
        words = code.split()
        if words:
            keyword = words[0].replace("_short_atomic", "_short")
            keyword = "symfunction_short" if keyword == "symfunction" else keyword
            settings.keywords.setdefault(keyword, []).append(SettingsLine(number, words[1:]))
    _refuse(settings)
    return settings


def _refuse_charges(settings: RunnerSettings) -> None:
    """Refuse what belongs to charges in a potential of the second generation."""
    for keyword in _OF_CHARGES:
        if keyword in settings and settings.generation == 2:
            raise InputError(
                f"{keyword} in a potential without charges", where=settings.where(settings.keywords[keyword][0]),
                expected="nnp_gen 3 or nnp_gen 4 beside it",
            )  # fmt: skip


def _refuse(settings: RunnerSettings) -> None:
    expected = "a high-dimensional neural network potential (2G, 3G or 4G)"
    _refuse_charges(settings)
    for keyword, lines in settings.keywords.items():
        where = settings.where(lines[-1])
        if keyword in _REFUSED and not (keyword == "use_electrostatics" and settings.generation > 2):
            raise InputError(
                f"{keyword}: {_REFUSED[keyword]} are not supported", where=where, expected=expected
            )
        if keyword in _ONLY and lines[0].words[:1] and lines[0].words[0] not in _ONLY[keyword]:
            raise InputError(
                f"{keyword} {lines[0].words[0]} is not supported",
                where=settings.where(lines[0]),
                expected=expected,
            )
        if keyword.endswith("symfunction_short") and keyword not in _REPEATED:
            raise InputError(
                f"{keyword}: pair symmetry functions are not supported", where=where, expected=expected
            )
        if (
            len(lines) > 1
            and keyword not in _REPEATED
            and not keyword.startswith(("element_", "fixed_charge"))
        ):
            raise InputError(
                f"{keyword} stands here and on line {lines[0].number}", where=where, expected="it once"
            )


class RunnerFunction(NamedTuple):
    """A symmetry function with its place in the order of the format, in the file's units."""

    key: tuple[float, ...]
    function: SymmetryFunction

    def in_angstrom(self, length: float) -> SymmetryFunction:
        """The function with lengths multiplied by `length` (Å per unit)."""
        f = self.function
        return SymmetryFunction(
            f.kind,
            f.center,
            f.neighbors,
            f.cutoff * length,
            f.eta / length**2,
            f.shift * length,
            f.zeta,
            f.lam,
        )


def parse_symmetry_function(words: Sequence[str], where: str) -> RunnerFunction:
    """Symmetry function of the arguments of ``symfunction_short``, in the file's unit of length.

    ``El 1 El1 rc``, ``El 2 El1 eta shift rc``, ``El 3|9 El1 El2 eta lambda zeta rc [shift]``.

    Raises
    ------
    InputError
        For another type or a wrong number of arguments.
    """
    try:
        number = int(words[1])
    except (IndexError, ValueError):
        raise InputError(
            f"symmetry function {' '.join(words)!r}", where=where, expected="element, type, ..."
        ) from None
    if number not in _TYPES:
        raise InputError(
            f"symmetry functions of type {number} are not supported",
            where=where,
            expected="type 1, 2, 3 or 9",
        )
    n_neighbors = 1 if number <= 2 else 2
    center, neighbors = words[0], list(words[2 : 2 + n_neighbors])
    values = [parse_number(word, where) for word in words[2 + n_neighbors :]]
    n_values = _PARAMETERS[number]
    if len(values) not in (n_values, n_values + (n_neighbors == 2)):
        raise InputError(
            f"{len(values)} numbers in a symmetry function of type {number}",
            where=where,
            expected=f"{n_values}",
        )
    for element in (center, *neighbors):
        if not atomic_numbers.get(element):
            raise InputError(f"unknown element {element!r}", where=where, expected="a chemical symbol")
    eta = shift = 0.0
    lam = zeta = 1.0
    if number == 1:
        cutoff = values[0]
    elif number == 2:
        eta, shift, cutoff = values
    else:
        eta, lam, zeta, cutoff = values[:4]
        shift = values[4] if len(values) > 4 else 0.0
    if not cutoff > 0.0:
        raise InputError(f"cutoff {cutoff:g}", where=where, expected="a positive length")
    z = sorted(atomic_numbers[e] for e in neighbors)
    function = SymmetryFunction(_TYPES[number], center, tuple(neighbors), cutoff, eta, shift, zeta, lam)
    return RunnerFunction((number, cutoff, eta, shift, zeta, lam, *z), function)


def symmetry_functions(settings: RunnerSettings) -> dict[str, list[RunnerFunction]]:
    """Symmetry functions of each centre element, sorted as RuNNer and n2p2 sort them.

    The order is that of inputs in the weight files and of ``scaling.data``: type, cutoff, eta, shift, zeta,
    lambda, neighbours by atomic number. ``element_symfunction_short`` and ``global_symfunction_short`` stand
    for all combinations of neighbours, and of centres.
    """
    elements = settings.elements
    pairs = [(a, b) for i, a in enumerate(elements) for b in elements[i:]]
    found: dict[str, list[RunnerFunction]] = {e: [] for e in elements}

    def add(line: SettingsLine, words: Sequence[str]) -> None:
        parsed = parse_symmetry_function(words, settings.where(line))
        unknown = {parsed.function.center, *parsed.function.neighbors} - set(elements)
        if unknown:
            raise InputError(
                f"element {unknown.pop()} of a symmetry function is not among the elements",
                where=settings.where(line), expected=" ".join(elements),
            )  # fmt: skip
        found[parsed.function.center].append(parsed)

    def expand(line: SettingsLine, center: str, words: Sequence[str]) -> None:
        radial = words[:1] in (["1"], ["2"])
        for neighbors in [(e,) for e in elements] if radial else pairs:
            add(line, [center, *words[:1], *neighbors, *words[1:]])

    for line in settings.keywords.get("symfunction_short", []):
        add(line, line.words)
    for line in settings.keywords.get("element_symfunction_short", []):
        expand(line, line.words[0] if line.words else "", line.words[1:])
    for line in settings.keywords.get("global_symfunction_short", []):
        for center in elements:
            expand(line, center, line.words)
    for element, functions in found.items():
        if not functions:
            raise InputError(f"no symmetry functions of element {element}", where=str(settings.path))
    return {element: sorted(functions, key=lambda f: f.key) for element, functions in found.items()}


def cutoff_function_of(settings: RunnerSettings) -> tuple[str, float]:
    """Kind of cutoff function and its inner fraction (``cutoff_type``, ``cutoff_alpha``)."""
    words = settings.words("cutoff_type", ["1"])
    where = (
        settings.where(settings.keywords["cutoff_type"][0])
        if "cutoff_type" in settings
        else str(settings.path)
    )
    number = int(parse_number(words[0], where))
    if number not in range(len(CUTOFF_KINDS)):
        raise InputError(f"cutoff_type {words[0]}", where=where, expected=f"0 to {len(CUTOFF_KINDS) - 1}")
    kind = CUTOFF_KINDS[number]
    inner = parse_number(words[1], where) if len(words) > 1 else settings.number("cutoff_alpha", 0.0)
    if not 0.0 <= inner < 1.0:
        raise InputError(f"inner cutoff {inner:g} of cutoff_type", where=where, expected="0 <= alpha < 1")
    if kind == "exponential" and inner > 0.0:
        raise InputError(
            "cutoff_type 4 with an inner cutoff is not supported", where=where, expected="alpha = 0"
        )
    return kind, inner
