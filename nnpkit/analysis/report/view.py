"""An interactive page beside the report: parity points that lead to structures, the worst ones first.

One file that needs no network: the viewer is 3Dmol.js (Rego and Koes, Bioinformatics 31, 1322 (2015); BSD license,
``viewer/3Dmol-LICENSE.txt``).
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from nnpkit.analysis.predictions import Predictions
from nnpkit.data.structure import Structure
from nnpkit.files import atomic_write

__all__ = ["view_beside", "view_data", "write_view"]

_FOLDER = Path(__file__).parent / "viewer"
_FRAMES = 300
_ATOMS = 30_000
"""What the page holds at most: structures, and atoms of all of them."""
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "worker-src blob:; font-src data:"
)
"""The browser refuses every request of the page, whatever a file has smuggled into it."""


def view_data(
    predictions: Mapping[str, Predictions], shift: Callable[[list[Structure]], np.ndarray] | None = None,
    frames: int = _FRAMES, atoms: int = _ATOMS,
) -> dict[str, Any]:  # fmt: skip
    """What the page shows, as plain numbers and lists.

    The half of the structures with the largest errors of energy or forces, each in units of its root mean square, and
    others evenly spaced, as long as there is room.

    Parameters
    ----------
    predictions : mapping
        Of each part of the data.
    shift : callable, optional
        Energies (eV/atom) of the elements, which are taken off both axes.
    frames, atoms : int
        Most structures, and most atoms of all of them.
    """
    candidates: list[tuple[float, str, int]] = []
    for part, found in predictions.items():
        score = np.zeros(len(found.structures))
        for errors in (np.abs(found.energy_error), found.largest_force_error):
            known = np.isfinite(errors)
            if known.any():
                typical = float(np.sqrt(np.mean(errors[known] ** 2))) or 1.0
                score = np.maximum(score, np.where(known, errors, 0.0) / typical)
        candidates += [(float(value), part, index) for index, value in enumerate(score)]
    ranked = sorted(candidates, key=lambda c: -c[0])
    worst, others = ranked[: frames // 2], ranked[frames // 2 :]
    stride = max(1, -(-len(others) // max(1, frames - len(worst))))
    chosen, room = [], atoms
    for _, part, index in [*worst, *others[::stride]]:
        size = predictions[part].structures[index].n_atoms
        if size <= room:
            chosen.append((part, index))
            room -= size
    content = [_frame(part, predictions[part], index, shift) for part, index in chosen]
    return {"frames": content, "structures": len(candidates)}


def _frame(
    part: str, found: Predictions, index: int, shift: Callable[[list[Structure]], np.ndarray] | None
) -> dict[str, Any]:
    """One structure with labels and predictions."""
    structure = found.structures[index]
    mine = found.structure == index
    offset = 0.0 if shift is None else float(shift([structure])[0])
    energy, label = float(found.energy[index]) - offset, float(found.energy_label[index]) - offset
    with_energy, with_forces = np.isfinite(label), np.isfinite(found.force_label[mine]).any()
    name = structure.name.rpartition("/")[2] or f"structure {index}"
    return {
        "name": name, "part": part, "elements": list(structure.symbols), "x": _numbers(structure.positions),
        "cell": _numbers(structure.cell) if structure.pbc.any() and structure.volume else None,
        "energy": [round(label, 6), round(energy, 6)] if with_energy else None,
        "energy_error": round(abs(energy - label), 7) if with_energy else None,
        "force_error": round(float(found.largest_force_error[index]), 5) if with_forces else None,
        "label": _numbers(found.force_label[mine]) if with_forces else None,
        "forces": _numbers(found.forces[mine]), "errors": _numbers(found.force_error[mine]) if with_forces else None,
    }  # fmt: skip


def _numbers(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 4) if np.isfinite(v) else None for v in np.ravel(values)]


def write_view(path: Path, title: str, content: Mapping[str, Any]) -> None:
    """Write the page.

    Parameters
    ----------
    path : path
        HTML file.
    title : str
        Above it.
    content : mapping
        Of `view_data`.
    """
    files = {
        name: (_FOLDER / name).read_text(encoding="utf-8") for name in ("3Dmol-min.js", "view.js", "view.css")
    }
    # inside a script element only its end tag has a meaning: no < is left that could begin one
    embedded = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    shown, of = len(content["frames"]), content["structures"]
    some = f"{shown} of {of} structures, the worst and some others. " if shown < of else ""
    about = f"{some}Click on a point or a line; the arrow keys go through the list."
    choices = "".join(
        f'<label><input type="radio" name="{name}" value="{value}"{" checked" if first else ""}> {words}</label>'
        for name, value, words, first in (
            ("kind", "force", "forces", True), ("kind", "energy", "energies", False),
        )
    )  # fmt: skip
    colours = (
        '<label><input type="radio" name="color" value="element" checked> elements</label>'
        '<label><input type="radio" name="color" value="error"> errors and forces (blue: label, red: potential)</label>'
    )
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{files['view.css']}</style></head><body>"
        f"<header><h1>{html.escape(title)}</h1><p>{html.escape(about)}</p></header><main>"
        f'<section><p>{choices}</p><table><thead><tr><th>Worst first</th><th>Part</th><th id="unit"></th></tr></thead>'
        '<tbody id="list"></tbody></table></section>'
        '<section><canvas id="plot" class="plot"></canvas><p id="about"></p></section>'
        f'<section><p>{colours}</p><div id="viewer"></div></section></main>'
        f'<script type="application/json" id="data">{embedded}</script>'
        f"<script>{files['3Dmol-min.js']}</script><script>{files['view.js']}</script></body></html>\n"
    )
    with atomic_write(path) as stream:
        stream.write(text)


def view_beside(report: Path, title: str, content: Mapping[str, Any]) -> str:
    """Write the page beside a `report`, as ``report.view.html``; a paragraph of HTML with the link to it."""
    path = report.with_name(f"{report.stem}.view.html")
    write_view(path, title, content)
    return f'<p><a href="{html.escape(quote(path.name))}">{html.escape(path.name)}</a></p>'
