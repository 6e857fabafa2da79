"""Time LAMMPS with one of several potentials, and account for its memory.

    python benchmarks/md_speed.py --model hdnnp_h2o --atoms 12288
    python benchmarks/md_speed.py --model dp_240 --atoms 1536 --precision mixed --compare

``hdnnp_h2o`` is the published RPBE-D3 water potential of n2p2 (27 and 30 symmetry functions, 25-25 nodes) and ``cu``
that of mlearn, both read from ``NNPKIT_DATA``. ``dp_240`` (embedding 25-50-100, fitting 240x3, water) and ``dp_rlekf``
(embedding 25-25-25, fitting 50x3, copper, 6 A) are Deep Potentials with drawn weights, embedding tabulated: their
speed does not depend on the weights. ``ce_h2o``, ``ce_cu``, ``ce_five`` (an alloy) and ``nep_cu`` are cluster
expansions and a NEP with default settings, drawn as well.

One LAMMPS process runs the same few NVE steps again and again; the smallest time counts, so that a machine that is
busy at times still gives a fair figure. With ``--ranks`` the gain is compared with one rank, and with what the machine
gives to as many runs that have nothing to do with each other: two threads of one core are no two cores.

Memory per atom is the growth of the largest resident set from a system an eighth as large, less that of ``pair_style
zero full`` with the same cutoff: LAMMPS' own atoms and full neighbour lists do not count. ``peak_mb`` is the largest
resident set of the run with everything in it, libraries as well. The last line is ``RESULT
{json}``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read
from ase.io.lammpsdata import write_lammps_data

if TYPE_CHECKING:
    from nnpkit.models.atomic_model import AtomicModel

WATER = Path(__file__).resolve().parents[1] / "examples" / "water" / "test.xyz.xz"
BIN = Path(sys.prefix) / "bin"
# elements, embedding, fitting
DEEP: dict[str, tuple[list[str], list[int], list[int]]] = {
    "dp_240": (["O", "H"], [25, 50, 100], [240, 240, 240]),
    "dp_rlekf": (["Cu"], [25, 25, 25], [50, 50, 50]),
}
EXPANSIONS = {
    "ce_h2o": ("cluster_expansion", ["O", "H"]),
    "ce_cu": ("cluster_expansion", ["Cu"]),
    "nep_cu": ("nep", ["Cu"]),
    "ce_five": ("cluster_expansion", ["Cr", "Mn", "Fe", "Co", "Ni"]),
}  # kind, elements
INPUT = """
units metal
atom_style atomic
read_data data.lmp
{masses}
{pair}
neighbor 2.0 bin
timestep 0.0005
velocity all create 300.0 12345
fix 1 all nve
thermo {steps}
run 2
"""


def published(name: str, path: Path) -> list[str]:
    """Write an imported potential; returns its elements."""
    from nnpkit.deploy.load import load

    if "NNPKIT_DATA" not in os.environ:
        sys.exit(f"--model {name} needs NNPKIT_DATA, the folder of the published potentials")
    oracles = Path(os.environ["NNPKIT_DATA"]) / "oracles"
    if name == "hdnnp_h2o":
        model = load(oracles / "n2p2_H2O_RPBE-D3", cflength=1.8897261328, cfenergy=0.0367493254)
    else:
        model = load(oracles / "mlearn_nnp" / "Cu")
    model.save(path)
    return model.elements


def drawn_deep(name: str, path: Path, atoms: Atoms) -> list[str]:
    """Write a Deep Potential with drawn weights, standardised on `atoms`; returns its elements."""
    from nnpkit.data.structure import Structure
    from nnpkit.families.deep_potential.environment import environment_statistics
    from nnpkit.families.factory import build_model, initialise

    elements, embedding, fitting = DEEP[name]
    network = {"hidden": fitting, "activation": "tanh", "timestep": True}
    model = build_model(
        {
            "kind": "deep_potential", "elements": elements, "energy_scale": 1.0, "wall": {},
            "descriptor": {
                "cutoff": 6.0, "smooth_from": 0.5, "cutoff_kind": "poly2", "embedding": embedding,
                "axis_neurons": 16, "activation": "tanh", "timestep": False, "one_side": True,
            },
            "networks": dict.fromkeys(elements, network),
            "reference_energies": dict.fromkeys(elements, 0.0),
        }
    )  # fmt: skip
    initialise(model, "deepmd", seed=1)
    structure = Structure.from_atoms(atoms, name="structure")
    model.descriptor.set(environment_statistics(model.descriptor, elements, [structure]))
    return write_gentle(model, path)


def drawn_expansion(name: str, path: Path, atoms: Atoms) -> list[str]:
    """Write a cluster expansion of 8 channels, or a NEP of default size, scaled on `atoms`; returns its elements."""
    from nnpkit.data.structure import Structure
    from nnpkit.families.factory import build_model, initialise
    from nnpkit.families.prepare import data_statistics
    from nnpkit.families.registered import family_of

    kind, elements = EXPANSIONS[name]
    family = family_of({"kind": kind})
    settings = family.settings()
    if kind == "nep":
        spec, _ = family.describe(settings, None)
    else:
        d = settings.descriptor
        sizes = {"radial_channels": 8, "radial_basis": d.radial_basis, "angular_basis": d.angular_basis}
        cutoffs = {
            "radial_cutoff": d.radial_cutoff or 5.0,
            "angular_cutoff": d.angular_cutoff or 5.0,
            "cutoff_kind": "cosine",
        }
        spec = {"descriptor": {**sizes, **cutoffs, "angular_channels": 8, "invariants": d.invariants}}
    hidden = [30] if kind == "nep" else [20, 20]
    network = family.describe_network(settings.network, hidden, "tanh")
    model = build_model(
        {
            "kind": kind, "elements": elements, "energy_scale": 1.0, "wall": {}, **spec,
            "networks": dict.fromkeys(elements, network),
            "reference_energies": dict.fromkeys(elements, 0.0),
        }
    )  # fmt: skip
    initialise(model, "xavier", seed=1)
    structure = Structure.from_atoms(atoms, name="structure")
    model.scaling.set(data_statistics(model.descriptor, elements, [structure]), "sigma", 0.0, 1.0)
    return write_gentle(model, path)


def write_gentle(model: AtomicModel, path: Path) -> list[str]:
    """Write a model with small forces, so that nothing flies apart; returns its elements."""
    from nnpkit.deploy.targets.torchscript import export_model

    for element_network in model.networks.networks:
        list(element_network.parameters())[-2].data *= 0.01
    export_model(model.requires_grad_(False), path)
    return model.elements


def system(name: str, n_atoms: int) -> Atoms:
    """About `n_atoms` of liquid water, or of copper or an alloy with small displacements."""
    if name in ("hdnnp_h2o", "dp_240", "ce_h2o"):
        cell = read(WATER, index=0)
        repeat = near_cube(round(n_atoms / len(cell)))
        return cell.repeat(repeat)
    cell = bulk("Cu", cubic=True)
    atoms = cell.repeat(near_cube(round(n_atoms / len(cell))))
    atoms.rattle(0.05, seed=1)
    if name == "ce_five":
        elements = EXPANSIONS[name][1]
        atoms.symbols[:] = np.random.default_rng(1).permutation(elements * (len(atoms) // 5 + 1))[
            : len(atoms)
        ]
    return atoms


def near_cube(n: int) -> tuple[int, int, int]:
    """Three factors whose product is at least `n`, as equal as they can be."""
    a = max(1, round(n ** (1 / 3)))
    while n % a and a > 1:
        a -= 1
    rest = n // a
    b = max(1, round(math.sqrt(rest)))
    while rest % b and b > 1:
        b -= 1
    return a, b, rest // b


class Bench:
    """LAMMPS runs of one model in one folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.model = folder / "model.pt"
        if name in DEEP:
            self.elements = drawn_deep(name, self.model, system(name, 100))
        elif name in EXPANSIONS:
            self.elements = drawn_expansion(name, self.model, system(name, 100))
        else:
            self.elements = published(name, self.model)
        self.cutoff = 6.0
        self.cpu = math.nan  # smallest CPU time of a rank in the last call of `run`, seconds

    def write(self, n_atoms: int) -> int:
        """Write the structure; returns how many atoms it has."""
        atoms = system(self.name, n_atoms)
        write_lammps_data(
            str(self.folder / "data.lmp"), atoms, specorder=self.elements, atom_style="atomic",
            force_skew=True, reduce_cell=True,
        )  # fmt: skip
        return len(atoms)

    def run(
        self, pair: str, steps: int, repeats: int, ranks: int = 1, **environment: str
    ) -> tuple[list[float], float, str]:
        """Seconds of each repeat, largest resident set in bytes, and the log."""
        from ase.data import atomic_masses, atomic_numbers

        masses = "\n".join(
            f"mass {t} {atomic_masses[atomic_numbers[e]]}" for t, e in enumerate(self.elements, 1)
        )
        lines = [INPUT.format(masses=masses, pair=pair, steps=steps)]
        lines += [f"run {steps}"] * repeats
        (self.folder / "in.lmp").write_text("\n".join(lines) + "\n")
        command = [str(BIN / "lmp"), "-in", "in.lmp", "-log", "none"]
        if ranks > 1:
            command = [str(BIN / "mpirun"), "-n", str(ranks), *command]
        measured = [sys.executable, "-c", MEASURE, *command]
        result = subprocess.run(
            measured, cwd=self.folder, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if result.returncode or "ERROR" in result.stdout:
            sys.exit(f"LAMMPS failed:\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
        loops = [float(t) for t in re.findall(r"Loop time of (\S+) on", result.stdout)][1:]
        busy = [float(t) / 100.0 for t in re.findall(r"(\S+)% CPU use", result.stdout)][1:]
        peak = float(re.findall(r"PEAK (\d+)", result.stdout)[-1])
        self.cpu = min(t * f for t, f in zip(loops, busy, strict=True)) if busy else math.nan
        return loops, peak * 1024.0, result.stdout

    def side_by_side(self, pair: str, steps: int, repeats: int, copies: int) -> float:
        """Seconds of a repeat while as many runs on one rank go on at the same time: the slowest of them."""
        benches = []
        for index in range(copies):
            bench = copy(self)
            bench.folder = self.folder / f"copy{index}"
            bench.folder.mkdir(exist_ok=True)
            for path in self.folder.glob("*.pt"):
                shutil.copy(path, bench.folder)
            shutil.copy(self.folder / "data.lmp", bench.folder)
            benches.append(bench)
        with ThreadPoolExecutor(copies) as pool:
            runs = [pool.submit(bench.run, pair, steps, repeats + 2) for bench in benches]
            loops = [run.result()[0][1:-1] for run in runs]  # in the first and the last others may be idle
        return max(min(times) for times in loops)

    def nnpkit(self, options: str) -> str:
        """Commands of our pair style."""
        return f"pair_style nnpkit {options}\npair_coeff * * model.pt {' '.join(self.elements)}"

    def zero(self) -> str:
        """Commands of a pair style that needs the same neighbours and does nothing."""
        return f"pair_style zero {self.cutoff} full\npair_coeff * *"


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print("PEAK", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def growth(bench: Bench, pair: str, n_atoms: int) -> float:
    """Bytes per atom of the largest resident set, from the growth between two sizes."""
    sizes, peaks = [], []
    for n in (max(n_atoms // 8, 96), n_atoms):
        sizes.append(bench.write(n))
        peaks.append(bench.run(pair, 1, 1)[1])
    return (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=["hdnnp_h2o", "cu", *DEEP, *EXPANSIONS], default="hdnnp_h2o")
    parser.add_argument("--atoms", type=int, default=1536)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--precision", choices=["float64", "mixed", "float32"], default="float64")
    parser.add_argument("--steps", type=int, default=10, help="of one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--options", default="", help="further keywords of pair_style nnpkit")
    parser.add_argument("--memory", action="store_true", help="measure memory per atom")
    parser.add_argument(
        "--compare", action="store_true", help="against TorchScript, and portable instructions"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(given.model, Path(folder))
        print("RESULT", json.dumps(measure(bench, given)))


def measure(bench: Bench, given: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    options = f"precision {given.precision} {given.options}".strip()
    n_atoms = bench.write(given.atoms)
    each = 1e6 / (n_atoms * given.steps)
    loops, peak, log = bench.run(bench.nnpkit(options), given.steps, given.repeats, given.ranks)
    cpu = bench.cpu
    cutoff = re.search(r"cutoff (\S+) A", log)
    bench.cutoff = float(cutoff[1].rstrip(",")) if cutoff else bench.cutoff
    kernel = re.search(r"(fused, \w+|torchscript \(.*?\))", log)
    result: dict[str, Any] = {
        "benchmark": "md_speed", "model": given.model, "atoms": n_atoms, "ranks": given.ranks,
        "precision": given.precision, "kernel": kernel[1] if kernel else "", "options": given.options,
        "us_per_atom_step": each * min(loops), "us_per_atom_step_median": each * float(np.median(loops)),
        "cpu_us_per_atom_step": each * cpu, "peak_mb": peak / 1e6,
    }  # fmt: skip
    if given.ranks > 1:
        alone, _, _ = bench.run(bench.nnpkit(options), given.steps, given.repeats)
        result["us_per_atom_step_one_rank"] = each * min(alone)
        result["parallel_efficiency"] = min(alone) / (given.ranks * min(loops))
        apart = bench.side_by_side(bench.nnpkit(options), given.steps, given.repeats, given.ranks)
        result["efficiency_of_independent_runs"] = min(alone) / apart
        result["parallel_efficiency_relative"] = apart / (given.ranks * min(loops))
    if given.compare:
        portable, _, _ = bench.run(bench.nnpkit(options), given.steps, 2, given.ranks, NNPKIT_ISA="portable")
        result["portable_us_per_atom_step"] = each * min(portable)
        result["speedup_over_portable"] = min(portable) / min(loops)
        torch, _, _ = bench.run(bench.nnpkit(options + " kernel torchscript"), 2, 2, given.ranks)
        result["torchscript_us_per_atom_step"] = 1e6 / (2 * n_atoms) * min(torch)
        result["speedup_over_torchscript"] = (
            result["torchscript_us_per_atom_step"] / result["us_per_atom_step"]
        )
    if given.memory:
        ours, lammps = (growth(bench, p, given.atoms) for p in (bench.nnpkit(options), bench.zero()))
        result |= {"bytes_per_atom": ours - lammps, "bytes_per_atom_lammps": lammps}
    return result


if __name__ == "__main__":
    main()
