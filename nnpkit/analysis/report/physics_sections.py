"""Sections of the validation report that let the potential work: short simulations, crystals."""

from __future__ import annotations

import csv
import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.analysis.crystal_figures import phonon_figure, state_figure
from nnpkit.analysis.phonons import has_phonopy, phonons
from nnpkit.analysis.plots import format_error
from nnpkit.analysis.report.page import image, table, text
from nnpkit.analysis.report.report_contents import Report, guarded, short_name
from nnpkit.analysis.report.report_schema import Crystal, Simulation
from nnpkit.analysis.simulation import simulate
from nnpkit.analysis.solids import (
    conventional,
    crystals,
    elastic_constants,
    equation_of_state,
)
from nnpkit.data.structure import Structure
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.md.simulation_settings import Simulation as Settings

__all__ = ["SECTIONS"]

_ELASTIC_ATOMS = 32
_PHONON_ATOMS = 16


def _start(report: Report) -> Structure | None:
    """Where simulations begin: as asked for, or the last periodic structure that has all elements."""
    if report.options.md_start is not None:
        return report.options.md_start
    assert report.run.model is not None
    for part in ("test", "validation", "train"):
        for s in reversed(list(report.run.splits.get(part, ()))):
            if s.pbc.all() and set(s.symbols) >= set(report.run.model.elements):
                return s
    return None


def _simulations(report: Report) -> None:
    """A short NPT run with density and radial distribution functions, and the drift of an NVE run."""
    options, model = report.options, report.run.model
    if not options.md_steps or model is None:
        return
    start = _start(report)
    if start is None:
        report.note("No simulation: no periodic structure with all elements to begin with.")
        return
    folder, parts = Path(options.md_folder or "report-md"), []
    for ensemble in ("npt", "nve"):
        settings = Settings(
            ensemble=ensemble, temperature=options.temperature, pressure=options.pressure, steps=options.md_steps,
            timestep=0.5 if "H" in start.symbols else 1.0, every=max(1, options.md_steps // 1000),
            dump_every=max(1, options.md_steps // 200), relax=ensemble == "nve", committee=model.n_members > 1,
            ranges=bool(model.metadata.get("feature_ranges")),
        )  # fmt: skip

        def action(settings: Settings = settings, folder: Path = folder / ensemble) -> None:
            summary = simulate(model, start, folder, settings, overwrite=True)
            parts.append(_simulation(report, settings, start, folder, summary))

        guarded(report, f"{ensemble} simulation", action)
    report.page.section(
        "Simulations", *parts,
        note=f"{options.md_steps} steps at {options.temperature:g} K from {short_name(start.name)}: a first look.",
    )  # fmt: skip


def _simulation(
    report: Report, settings: Settings, start: Structure, folder: Path, summary: dict[str, Any]
) -> str:
    """One run in the data and as HTML."""
    rdf = None
    if (folder / "rdf.csv").exists() and settings.ensemble == "npt":
        with open(folder / "rdf.csv", encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
        rdf = {name: [float(row[n]) for row in rows[1:]] for n, name in enumerate(rows[0])}
    report.data.simulations.append(
        Simulation(
            ensemble=settings.ensemble,
            structure=start.name,
            steps=settings.steps,
            unstable=summary["unstable"],
            outside=summary.get("outside"),
            summary=summary,
            rdf=rdf,
        )
    )
    wanted = ["density", "temperature", "rdf"] if settings.ensemble == "npt" else ["conserved_energy"]
    drawn = [image((folder / f"{n}.png").read_bytes()) for n in wanted if (folder / f"{n}.png").exists()]
    facts = []
    for name, unit in (("density", "g/cm³"), ("temperature", "K"), ("energy_drift", "meV/atom/ps")):
        value, error = summary.get(name), summary.get(f"{name}_error")
        if value is not None and (name, settings.ensemble) != ("density", "nve"):
            shown = format_error(value, float("nan") if error is None else error)
            facts.append(f"{name.replace('_', ' ')} {shown} {unit}")
    words = text("; ".join(facts) + ".") if facts else ""
    if summary["unstable"]:
        words = f'<p class="say">The run is not stable: {html.escape(summary["unstable"])}.</p>' + words
    elif summary.get("outside"):
        words = f'<p class="say">The run cannot be trusted: {html.escape(summary["outside"])}.</p>' + words
    if summary.get("not_settled"):
        words += text(
            "Not settled, without error: "
            + "; ".join(f"{name.replace('_', ' ')} ({why})" for name, why in summary["not_settled"].items())
            + "."
        )
    return f'<h3>{settings.ensemble.upper()}</h3>{words}<div class="row">{"".join(drawn)}</div>'


def _solids(report: Report) -> None:
    """Equation of state, elastic constants and phonons of crystals."""
    model, named = report.run.model, report.options.solids
    if model is None:
        return
    found = named if named is not None else crystals([s for part in report.run.splits.values() for s in part])
    if not found:
        return
    calculator, parts = NnpkitCalculator(model), []
    for structure in found:
        guarded(
            report,
            structure.name,
            lambda s=structure: parts.append(_crystal(report, s, calculator)),  # type: ignore[misc]
        )
    if not has_phonopy():
        report.note("No phonons: phonopy is not installed (pip install nnpkit[report]).")
    report.page.section(
        "Crystals", *parts,
        note="The equation of state keeps fractional coordinates; elastic constants are those of relaxed ions, in the "
        "standard axes if spglib is installed, else in those of the data. Compare with reference and experiment.",
    )  # fmt: skip


def _crystal(report: Report, structure: Structure, calculator: NnpkitCalculator) -> str:
    """One crystal in the data and as HTML."""
    structure = conventional(structure)
    state = equation_of_state(structure, calculator)
    elastic = (
        elastic_constants(structure, calculator, state.volume)
        if structure.n_atoms <= _ELASTIC_ATOMS
        else None
    )
    bands = None
    if has_phonopy() and structure.n_atoms <= _PHONON_ATOMS:
        bands = phonons(structure, calculator, state.volume)
    report.data.crystals.append(
        Crystal(
            structure=structure.name,
            volume=state.volume,
            energy=state.energy,
            bulk_modulus=state.bulk_modulus,
            bulk_derivative=state.derivative,
            volumes=state.volumes.tolist(),
            energies=state.energies.tolist(),
            elastic=None if elastic is None else elastic.constants.tolist(),
            shear_modulus=None if elastic is None else elastic.shear_modulus,
            elastically_stable=None if elastic is None else elastic.stable,
            lowest_phonon=None if bands is None else bands.lowest,
        )
    )
    symbols = "".join(f"{e}{n if n > 1 else ''}" for e, n in structure.composition.items())
    rows: list[tuple[str, object]] = [
        ("Volume, Å³/atom", state.volume), ("Energy, eV/atom", f"{state.energy:.5f}"),
        ("Bulk modulus, GPa", state.bulk_modulus), ("its derivative by pressure", state.derivative),
    ]  # fmt: skip
    words = ""
    if elastic is not None:
        rows += [
            ("from elastic constants, GPa", elastic.bulk_modulus),
            ("Shear modulus, GPa", elastic.shear_modulus),
        ]
        names = ("xx", "yy", "zz", "yz", "xz", "xy")
        matrix = [
            (name, *(np.round(row, 1) + 0.0).tolist())
            for name, row in zip(names, elastic.constants, strict=True)
        ]
        words = table(["GPa", *names], matrix, [0])
        if not elastic.stable:
            words += '<p class="say">Some small strain lowers the energy: the crystal is not stable.</p>'
    drawn = image(state_figure(state))
    if bands is not None:
        drawn += image(
            phonon_figure(bands),
            "Phonons" + ("" if bands.stable else ": imaginary frequencies, drawn below zero"),
        )
    head = f"<h3>{html.escape(symbols)}, {html.escape(short_name(structure.name))}</h3>"
    return f'{head}<div class="row">{drawn}</div><div class="row">{table(["", ""], rows, [0])}{words}</div>'


SECTIONS: list[tuple[str, Callable[[Report], None]]] = [("simulations", _simulations), ("crystals", _solids)]
