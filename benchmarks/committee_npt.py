"""Density and structure of liquid water from a published committee of eight potentials.

    python benchmarks/committee_npt.py --folder npt --steps 200000

``cnnp_revPBE0-D3_water`` (generation 4; Schran, Brezina, Marsalek, J. Chem. Phys. 153, 104105, 2020) is read from
``NNPKIT_DATA``, written as one committee.pt, and run at 320 K and 1 bar from a box of 64 molecules of its training
set. The disagreement is evaluated with every line of thermodynamic output. With ``--analyse`` a folder that has been
run, or is running, is only evaluated. The last line is ``RESULT {json}``: density with its standard error, the first
peak of the O-O radial distribution, and the disagreement. The plots are in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.analysis.simulation import report
from nnpkit.data.formats.reading import read
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.md.lammps import FILES, input_files
from nnpkit.md.lammps_run import lammps_command, prepare_folder, run_lammps
from nnpkit.md.simulation_progress import SimulationProgress
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo, read_log

MEMBERS = "oracles/cnnp_revPBE0-D3_water/generation-4/c-nnp-model"
START = "water_revPBE0-D3_cnnp/gen1_train.xyz.xz"


def committee(path: Path, data: Path) -> None:
    """Write the eight members as one file."""
    models = [load(data / MEMBERS / f"nnp-{k}", units="bohr-hartree") for k in range(1, 9)]
    export_committee([m.atomic_model() for m in models], [m.metadata for m in models], path)


def first_peak(folder: Path) -> tuple[float, float]:
    """Place (Å) and height of the first peak of g_OO."""
    table = Thermo.read_csv(folder / "rdf.csv")
    near = table["r_A"] < 3.5
    k = int(np.argmax(table["g_O_O"][near]))
    return float(table["r_A"][k]), float(table["g_O_O"][k])


def main() -> None:
    """Run, or only evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("committee_npt"))
    parser.add_argument("--steps", type=int, default=200000, help="of 0.5 fs")
    parser.add_argument("--every", type=int, default=50, help="steps between lines of thermodynamic output")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--precision", choices=["float64", "mixed"], default="mixed")
    parser.add_argument("--analyse", action="store_true", help="only evaluate the folder")
    given = parser.parse_args()
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("NNPKIT_DATA is not set: it is the folder of the published potentials")
    data = Path(os.environ["NNPKIT_DATA"])
    simulation = Simulation(
        ensemble="npt", temperature=320.0, pressure=1.0, timestep=0.5, steps=given.steps, every=given.every,
        dump_every=500, committee=True, ranges=False,
    )  # fmt: skip
    start = read(data / START, frames=0)[0]
    if given.analyse:
        reader = read_log(given.folder / FILES["log"])
    else:
        files = input_files(simulation, start, ranks=given.ranks)
        style = f"pair_style      nnpkit precision {given.precision}"
        files[FILES["input"]] = files[FILES["input"]].replace("pair_style      nnpkit", style)
        prepare_folder(given.folder, files, overwrite=True)
        committee(given.folder / FILES["model"], data)
        with SimulationProgress(given.steps) as progress:
            reader = run_lammps(given.folder, lammps_command(given.ranks), progress)
    summary = report(given.folder, simulation, start, reader, given.ranks)
    print("RESULT", json.dumps(figures(given.folder, summary)))


def figures(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """What is compared with the literature."""
    keys = (
        "n_atoms", "steps", "averaged", "temperature", "temperature_error", "density", "density_error", "pressure",
        "pressure_error", "force_std_max", "force_std_mean", "energy_std", "extrapolations", "us_per_atom_step",
        "unstable", "settled", "not_settled",
    )  # fmt: skip
    place, height = first_peak(folder)
    return {key: summary.get(key) for key in keys} | {"g_OO_peak_A": place, "g_OO_peak": height}


if __name__ == "__main__":
    main()
