"""What charges cost in LAMMPS: the same water potential with and without them, in turn.

    python benchmarks/charges.py --atoms 1536

The short-range part is symmetry functions as chosen for the water of the example, with first weights: speed does not
depend on them. Charges are of the third and fourth generation and latent, with default settings. Atoms fly on with
their velocities at 300 K in steps of 0.5 fs, whatever the forces, so that charges change about as they do in water;
first until those of the fourth generation are predicted from the steps before. Potentials take turns; the smallest
processor time of a step counts, which other work on the machine disturbs less than the time of a clock. ``--kernel
torchscript`` compares everything by TorchScript, ``--slab`` in a slab. The last line is ``RESULT {json}``: costs
relative to the potential without charges, microseconds per atom and step, and how often interactions of charges were
multiplied with a vector in each step, exactly and roughly.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from ase.io import read
from ase.io.lammpsdata import write_lammps_data
from md_speed import WATER, near_cube

from nnpkit.config.config_file import config_from_mapping
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.families.factory import initialise
from nnpkit.workflow import assemble
from nnpkit.workflow.new_model import describe_model, scaled_model

FIRST = 10  # steps that are not counted
KINDS = {"none": None, "cost_3g": "third", "cost_latent": "latent", "cost_4g": "fourth"}
BIN = Path(sys.prefix) / "bin"
INPUT = """
units metal
atom_style charge
boundary {boundary}
read_data data.lmp
mass 1 15.999
mass 2 1.008
pair_style nnpkit every 0 {options}
pair_coeff * * model.pt O H
neighbor 1.0 bin
timestep 0.0005
velocity all create 300.0 12345
fix 1 all nve/noforce
run {first} post no
{runs}
"""


def write_model(folder: Path, generation: str | None) -> None:
    """Write the untrained potential with charges of a `generation`, or without."""
    model: dict[str, Any] = {"kind": "acsf", "elements": ["O", "H"]}
    if generation:
        model["charges"] = {"generation": generation}
    settings = {"data": {"train": [str(WATER)]}, "model": model, "output": str(folder / "run")}
    config = config_from_mapping(settings, folder)
    data = assemble.load_data(config)
    spec, _ = describe_model(config, data)
    made, _ = scaled_model(config.model, spec, data)
    initialise(made, "xavier", seed=1)
    for parameter in list(made.networks.parameters()):
        parameter.data *= 0.1  # small forces: nothing shall fly apart
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_model(made.requires_grad_(False), folder / "model.pt")


def seconds_per_step(
    folder: Path, steps: int, repeats: int, options: str, ranks: int, boundary: str
) -> tuple[float, str, tuple[float, float] | None]:
    """Smallest processor time of a step on all ranks, what the log says of the kernel, and products of a step.

    Products are exact ones, and those on a coarse mesh that prepare them.
    """
    runs = f"run {steps}\n" * repeats
    (folder / "in.lmp").write_text(INPUT.format(options=options, first=FIRST, runs=runs, boundary=boundary))
    command = [str(BIN / "lmp"), "-in", "in.lmp", "-nocite"]
    if ranks > 1:
        command = [str(BIN / "mpirun"), "-n", str(ranks), *command]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    times = [float(t) for t in re.findall(r"Loop time of (\S+)", done.stdout)][-repeats:]
    busy = [float(part) / 100.0 for part in re.findall(r"([\d.]+)% CPU use", done.stdout)][-repeats:]
    found = re.findall(r"times a vector, per step: (\S+) \(roughly: (\S+)\)", done.stdout)
    products = [(float(exact), float(rough)) for exact, rough in found]
    kernel = re.findall(r"float64, (.*?), \d+ thread", done.stdout)[0]
    fastest = min(t * part for t, part in zip(times, busy, strict=True))
    return ranks * fastest / steps, kernel, products[-1] if products else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--atoms", type=int, default=1536)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="how often all take their turn")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS)[1:], default=list(KINDS)[1:])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--kernel", default="fused")
    parser.add_argument("--ewald", default="")
    parser.add_argument(
        "--slab", action="store_true", help="open along z, with 10 Å of nothing on either side"
    )
    arguments = parser.parse_args()
    cell = read(WATER, index=0)
    atoms = cell.repeat(near_cube(round(arguments.atoms / len(cell))))
    if arguments.slab:
        atoms.center(vacuum=10.0, axis=2)
    boundary = "p p f" if arguments.slab else "p p p"
    costs: dict[str, float] = {}
    products: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for turn in range(arguments.rounds):
            for name in ["none", *arguments.kinds]:
                folder = Path(scratch) / name
                if turn == 0:
                    folder.mkdir()
                    write_lammps_data(
                        folder / "data.lmp", atoms, specorder=["O", "H"], atom_style="charge", units="metal"
                    )
                    write_model(folder, KINDS[name])
                options = f"kernel {arguments.kernel}"
                if KINDS[name] and arguments.ewald:
                    options += f" ewald {arguments.ewald}"
                seconds, kernel, count = seconds_per_step(
                    folder, arguments.steps, arguments.repeats, options, arguments.ranks, boundary
                )
                found = 1e6 * seconds / len(atoms)
                costs[name] = min(costs.get(name, found), found)
                if count:
                    products[name] = count
                print(f"{name:12} {found:8.2f} us per atom and step, {kernel} {count or ''}", flush=True)
    result: dict[str, Any] = {
        name: round(cost / costs["none"], 3) for name, cost in costs.items() if name != "none"
    }
    result |= {"microseconds": {name: round(cost, 3) for name, cost in costs.items()}, "atoms": len(atoms)}
    print("RESULT", json.dumps(result | {"products": products}))


if __name__ == "__main__":
    main()
