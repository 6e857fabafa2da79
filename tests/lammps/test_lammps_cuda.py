"""LAMMPS through the CUDA kernels computes what it computes on the processor: on a GPU, or emulated without one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from cuda_library import cuda_library
from harness import (
    MEASURE,
    Measured,
    Result,
    environment,
    lmp,
    measured,
    potential,
    random_structure,
    setup,
    write_data,
)
from small_models import small_model
from test_lammps_committee import OBSERVE, observed

from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.models.atomic_model import AtomicModel

CELL = [[9.5, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]
WITHOUT_CENTROID = MEASURE.replace("compute c all centroid/stress/atom NULL\n", "").replace(" c_c[*]", "")


def deep_model() -> AtomicModel:
    from test_deep_kernel import make_model

    return make_model(wall=True)


def committee_member(family: str, seed: int) -> AtomicModel:
    """One of a committee, of symmetry functions with ranges or a Deep Potential."""
    if family == "acsf":
        return small_model(seed=seed, wall={"H-O": 1.3, "H-H": 1.4})
    from test_deep_kernel import make_model

    return make_model(wall=True, scaled=True, seed=seed)


MODELS = {"acsf": lambda: small_model(wall={"H-O": 1.3, "H-H": 1.4}), "deep": deep_model}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models")
    for name, make in MODELS.items():
        export_model(make(), path / f"{name}.pt")
    return path


@pytest.fixture
def place(folder: Path, models: Path) -> Path:
    for name in MODELS:
        shutil.copy(models / f"{name}.pt", folder)
    return folder


def run(folder: Path, text: str, ranks: int = 1) -> Result:
    return lmp(folder, text, ranks, env=environment(NNPKIT_CUDA_LIBRARY=str(cuda_library())))


def single_point(
    folder: Path, model: str, options: str, ranks: int = 1, commands: str = WITHOUT_CENTROID
) -> Measured:
    processors = {1: "", 2: "", 4: "1 1 4"}[ranks]
    return measured(
        run(folder, setup(processors=processors) + potential(options, f"{model}.pt") + commands, ranks)
    )


def check(found: Measured, wanted: Measured, tolerance: float = 1e-10) -> None:
    assert found.energy == pytest.approx(wanted.energy, rel=1e-12, abs=tolerance)
    for name in ("forces", "virial", "energies", "virials", "centroid_virials"):
        have, want = getattr(found, name), getattr(wanted, name)
        np.testing.assert_allclose(have, want, rtol=0, atol=tolerance * max(1.0, abs(want).max(initial=0.0)))


@pytest.mark.parametrize(
    ("model", "ranks", "options"),
    [("acsf", 1, "chunk 7"), ("acsf", 4, ""), ("deep", 2, "chunk 11"), ("deep", 1, "")],
)
def test_single_point(place: Path, model: str, ranks: int, options: str) -> None:
    """Chunks, domains and, of the four ranks one above the other, some without atoms."""
    fill = (1.0, 1.0, 0.4) if ranks == 4 else (1.0, 1.0, 1.0)
    write_data(place / "data.lmp", random_structure(20 if ranks == 4 else 36, CELL, seed=3, fill=fill))
    wanted = single_point(place, model, "device cpu")
    check(single_point(place, model, f"device cuda {options}", ranks), wanted)


def test_centroid_virial(place: Path) -> None:
    """It needs the gradient of every edge."""
    write_data(place / "data.lmp", random_structure(30, CELL, seed=4))
    wanted = single_point(place, "acsf", "device cpu", commands=MEASURE)
    check(single_point(place, "acsf", "device auto", commands=MEASURE), wanted)


def test_dynamics(place: Path) -> None:
    """Lists that are built anew, atoms that change ranks, and a type that the potential does not see."""
    write_data(place / "data.lmp", random_structure(40, CELL, seed=5))
    text = """pair_style hybrid/overlay nnpkit {} lj/cut 3.0
pair_coeff * * nnpkit acsf.pt O NULL
pair_coeff * * lj/cut 0.01 1.6
velocity all create 600 7
timestep 0.0005
neighbor 0.3 bin
neigh_modify every 1 delay 0 check yes
fix 1 all nve
thermo 20
thermo_style custom step pe press
dump d all custom 60 dump id x y z vx vy vz
dump_modify d sort id format float %.17g
run 60
print '@builds $(ndanger)'
print '@pe $(pe:%.17g)'
"""
    runs = []
    for device, ranks in (("device cpu", 1), ("device cuda", 2)):
        done = run(place, setup() + text.format(device), ranks)
        assert done.returncode == 0, done.output
        assert ("fused, cuda" in done.output) == (device == "device cuda")
        runs.append((done.values()["pe"], done.dump()))
    assert runs[0][0] == pytest.approx(runs[1][0], abs=1e-9)
    np.testing.assert_allclose(runs[0][1], runs[1][1], rtol=0, atol=1e-9)


def test_committee(committee_folder: Path) -> None:
    """Disagreement wants the gradients of the members, the steps between observations do not."""
    write_data(committee_folder / "data.lmp", random_structure(30, CELL, seed=6))
    text = "compute u all pair nnpkit\nthermo_style custom step pe press c_u[1] c_u[2]\nthermo 1\nfix 1 all nve\n"
    text += "timestep 0.0002\nrun 6\n" + "".join(f"print '@u{k} $(c_u[{k}]:%.17g)'\n" for k in (1, 2, 4))
    text += "print '@pe $(pe:%.17g)'\n"
    values = [
        run(committee_folder, setup() + potential(f"{device} every 3", "committee.pt") + text).values()
        for device in ("device cpu", "device cuda")
    ]
    assert values[0].keys() == values[1].keys()
    assert len(values[0]) == 4
    for name, value in values[0].items():
        assert values[1][name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize(
    ("family", "drawn", "ranks", "options"),
    [
        ("acsf", False, 1, "chunk 7"),
        ("acsf", True, 2, ""),
        ("acsf", False, 4, ""),
        ("deep", False, 2, "chunk 9"),
    ],
)
def test_observed_steps(folder: Path, family: str, drawn: bool, ranks: int, options: str) -> None:
    """Where members and extrapolations are asked for, what was added up on the device is what the processor adds up."""
    members = [committee_member(family, seed) for seed in (3, 4, 5)]
    metadata = [
        {**model_metadata(m), **({"drawn": True} if drawn and k else {})} for k, m in enumerate(members)
    ]
    export_committee(members, metadata, folder / "committee.pt")
    fill = (1.0, 1.0, 0.4) if ranks == 4 else (1.0, 1.0, 1.0)
    write_data(folder / "data.lmp", random_structure(20 if ranks == 4 else 30, CELL, seed=6, fill=fill))
    found = []
    for device, n in (("device cpu", 1), (f"device cuda {options}", ranks)):
        processors = setup(processors="1 1 4" if n == 4 else "")
        result = run(folder, processors + potential(device, "committee.pt") + OBSERVE + WITHOUT_CENTROID, n)
        found.append((observed(result), result.dump("spread"), measured(result)))
    (expected, spread, wanted), (values, own, have) = found
    assert expected["1"] > 0.0
    assert family == "deep" or expected["5"] > 10.0
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-9, abs=1e-11), name
    np.testing.assert_allclose(own, spread, rtol=1e-9, atol=1e-11)
    check(have, wanted)


def test_atoms_at_the_same_place(place: Path) -> None:
    atoms = random_structure(10, CELL, seed=3)
    atoms.positions[1] = atoms.positions[0]
    write_data(place / "data.lmp", atoms)
    done = run(place, setup() + potential("device cuda", "acsf.pt") + "run 0\n")
    assert done.returncode != 0
    assert "two atoms are at the same place at step 0" in done.errors[0]


def test_a_model_without_a_cuda_kernel(place: Path) -> None:
    write_data(place / "data.lmp", random_structure(10, CELL, seed=3))
    done = run(place, setup() + potential("device cuda") + "run 0\n")
    assert "no CUDA kernel evaluates this model" in " ".join(done.errors)
    done = run(place, setup() + potential("device auto") + "run 0\n")
    assert done.returncode == 0, done.output
