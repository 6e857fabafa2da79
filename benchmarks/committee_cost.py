"""Time a committee of symmetry function potentials in LAMMPS, all outputs at every step, against one of its members.

    python benchmarks/committee_cost.py --atoms 1536 --members 8

The members are the published water potential of ``md_speed.py`` with weights changed a little, as members trained on
the same functions are. The committee gives mean forces, and the disagreement of forces and energies at every step;
the single potential gives forces. Runs alternate, and the smallest times count. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from md_speed import Bench

from nnpkit.deploy.load import load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee

OUTPUTS = """
compute disagreement all nnpkit force_std_max force_std_mean force_std_percentile energy_std
thermo_style custom step etotal c_disagreement[1] c_disagreement[2] c_disagreement[3] c_disagreement[4]
"""


def write_committee(model: Path, n_members: int, path: Path) -> None:
    """Write `n_members` potentials whose weights differ by a few percent from those of `model`."""
    members = []
    for index in range(n_members):
        member = load(model).atomic_model()
        generator = torch.Generator().manual_seed(index)
        with torch.no_grad():
            for p in member.parameters():
                p.mul_(1.0 + 0.01 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        members.append(member)
    export_committee(members, [model_metadata(m) for m in members], path)


def main() -> None:
    """Run both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--atoms", type=int, default=1536)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--precision", choices=["float64", "mixed", "float32"], default="float64")
    parser.add_argument("--every", type=int, default=1, help="steps between evaluations of the disagreement")
    parser.add_argument(
        "--options", default="", help="further keywords of pair_style nnpkit, as `device cuda`"
    )
    parser.add_argument("--steps", type=int, default=10, help="of one repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench("hdnnp_h2o", Path(folder))
        write_committee(bench.model, given.members, Path(folder, "committee.pt"))
        n_atoms = bench.write(given.atoms)
        each = 1e6 / (n_atoms * given.steps)
        options = f"precision {given.precision} {given.options} "
        one = bench.nnpkit(options)
        all_members = (
            bench.nnpkit(options + f"every {given.every}").replace("model.pt", "committee.pt") + OUTPUTS
        )
        wall: dict[str, list[float]] = {"one": [], "all": []}
        cpu: dict[str, list[float]] = {"one": [], "all": []}
        for _ in range(given.rounds):
            for name, pair in (("one", one), ("all", all_members)):
                loops, _, _ = bench.run(pair, given.steps, given.repeats)
                wall[name] += loops
                cpu[name].append(bench.cpu)
    result = {
        "benchmark": "committee_cost", "atoms": n_atoms, "members": given.members, "every": given.every,
        "precision": given.precision, "options": given.options,
        "us_per_atom_step_one": each * min(wall["one"]), "us_per_atom_step_committee": each * min(wall["all"]),
        "ratio": min(wall["all"]) / min(wall["one"]), "ratio_cpu": min(cpu["all"]) / min(cpu["one"]),
    }  # fmt: skip
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
