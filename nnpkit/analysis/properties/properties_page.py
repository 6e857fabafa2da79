"""Properties as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nnpkit.analysis.plots import format_error
from nnpkit.analysis.properties.results import Result
from nnpkit.analysis.report.page import Page, cell, image, table, text

__all__ = ["rows", "write_page"]

_TITLES = {
    "crystal": "Crystal at rest", "eos": "Equation of state", "compression": "Compression",
    "elastic": "Elastic constants", "vacancy": "Vacancies", "interstitial": "Interstitials", "surfaces": "Surfaces",
    "stacking": "Stacking fault", "phonons": "Phonons",
    "expansion": "Thermal expansion", "hot-elastic": "Elastic constants at a temperature",
    "diffusion": "Diffusion", "viscosity": "Viscosity",
    "vibrations": "Vibrational spectrum", "melting": "Melting", "conductivity": "Thermal conductivity",
}  # fmt: skip


def rows(
    found: Mapping[str, Result], compared: Mapping[str, Result], with_reference: bool
) -> list[tuple[object, ...]]:
    """A line for every number: property, name, value with error, that of the reference, unit."""
    lines: list[tuple[object, ...]] = []
    for name, result in found.items():
        for key, (value, unit) in result.values.items():
            shown = format_error(value, result.errors[key]) if key in result.errors else cell(value)
            other = compared[name].values.get(key) if name in compared else None
            beside = (None if other is None else other[0],) if with_reference else ()
            lines.append((name, key, shown, *beside, unit))
    return lines


def write_page(
    path: Path, structure: str, found: Mapping[str, Result], compared: Mapping[str, Result], reference: str | None
) -> None:  # fmt: skip
    """Write the page of all properties of `structure`.

    Parameters
    ----------
    path : path
        Of the page.
    structure : str
        Its name.
    found, compared : mapping
        Results of the potential and of the reference.
    reference : str, optional
        Name of the reference.
    """
    page = Page(f"Properties of {structure}", f"Compared with {reference}" if reference else "")
    head = ["", "potential", *([reference] if reference else []), "unit"]
    for name, result in found.items():
        parts = [table(head, [row[1:] for row in rows({name: result}, compared, bool(reference))], [0, -1])]
        figures = [("Potential: " if name in compared else "", result)]
        figures += [("Reference: ", compared[name])] if name in compared else []
        drawn = [image(png, words + caption) for words, r in figures for caption, png in r.figures]
        if drawn:
            parts.append(f'<div class="row">{"".join(drawn)}</div>')
        reasons = [f"{words.lower()}{r.failed}" for words, r in figures if r.failed]
        page.section(_TITLES[name], *parts, *(text(note) for note in (*reasons, *result.notes)))
    page.write(path)
