"""What a compute tells of the members of a committee and of the features of every atom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from harness import ENERGY_UNIT, lmp, random_structure, setup, write_data
from small_models import small_model, small_spec
from test_cluster_expansion import make_model as expansion_model
from test_committee import deep_model

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model

TRICLINIC = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]
FORMAT = "thermo_modify format float %.17g\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files by what is in them; the members of the committees also alone, as NAME-0 and so on."""
    folder, files = tmp_path_factory.mktemp("models"), {}
    other = small_model(seed=4, functions=small_spec()["functions"][:-2])
    kinds = {
        "acsf": [small_model()], "deep": [deep_model()],
        "committee": [small_model(seed=3), other, small_model(seed=5)], "mixed": [small_model(), deep_model()],
    }  # fmt: skip
    for name, members in kinds.items():
        files[name] = folder / f"{name}.pt"
        if len(members) == 1:
            export_model(members[0], files[name])
            continue
        export_committee(members, [model_metadata(m) for m in members], files[name])
        for index, member in enumerate(members):
            files[f"{name}-{index}"] = folder / f"{name}-{index}.pt"
            export_model(member, files[f"{name}-{index}"])
    return files


@pytest.fixture
def atoms(folder: Path) -> Atoms:
    atoms = random_structure(30, TRICLINIC, seed=21)
    write_data(folder / "data.lmp", atoms)
    return atoms


def style(model: Path, options: str = "") -> str:
    return f"pair_style nnpkit every 0 {options}\npair_coeff * * {model} O H\n"


def features_of(model: LoadedModel, atoms: Atoms) -> np.ndarray:
    """By PyTorch."""
    graph = build_graph(Structure.from_atoms(atoms, name="a"), model.elements, model.cutoff)
    arguments = (edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
    return model.module.features(*arguments).detach().numpy()


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("units", ["metal", "real"])
@pytest.mark.parametrize("kind", ["committee", "mixed"])
def test_member_energies_are_those_of_the_members(
    folder: Path, atoms: Atoms, models: dict[str, Path], kind: str, units: str, ranks: int
) -> None:
    """Among other quantities, in their order; the mean is the energy of the run."""
    text = setup(units=units) + style(models[kind])
    text += "compute m all nnpkit energy_std member_energy force_std_max\n"
    names = sorted(name for name in models if name.startswith(kind + "-"))
    n = len(names)
    text += f"thermo_style custom step pe c_m[*]\n{FORMAT}run 0\n"
    text += "".join(f"variable v{k} equal c_m[{k}]\nprint '@m{k} $(v_v{k}:%.17g)'\n" for k in range(1, n + 3))
    text += "variable e equal pe\nprint '@pe $(v_e:%.17g)'\n"
    values = lmp(folder, text, ranks).values()
    found = np.array([values[f"m{k}"] for k in range(1, n + 3)]) / ENERGY_UNIT[units]
    structure = Structure.from_atoms(atoms, name="a")
    expected = np.array([load(models[name]).predict(structure).energy for name in names])
    np.testing.assert_allclose(found[1:-1], expected, rtol=1e-7 if units == "real" else 1e-13)
    assert found[0] == pytest.approx(expected.std() / len(atoms), rel=1e-6)
    assert values["pe"] / ENERGY_UNIT[units] == pytest.approx(expected.mean(), rel=1e-7)


@pytest.mark.parametrize("observed", ["", "force_std_max"])
def test_features_of_drawn_members_are_counted_once(folder: Path, atoms: Atoms, observed: str) -> None:
    """A cluster expansion's members have features of their own, but not those drawn around one: counts of as many as
    the file has ranges for have room, also where the members are evaluated."""
    members = [expansion_model(elements=["O", "H"]) for _ in range(4)]
    for member in members[1:]:
        member.load_state_dict(members[0].state_dict())
    export_model(members[0], folder / "alone.pt")
    metadata = [{**model_metadata(m), **({"drawn": True} if k else {})} for k, m in enumerate(members)]
    export_committee(members, metadata, folder / "drawn.pt")
    counts = []
    for name, quantities in (("alone", ""), ("drawn", observed)):
        text = setup() + style(folder / f"{name}.pt") + f"compute m all nnpkit extrapolations {quantities}\n"
        text += f"thermo_style custom step pe c_m[1]\n{FORMAT}run 2\n"
        text += "variable c equal c_m[1]\nvariable e equal pe\n"
        counts.append(lmp(folder, text + "print '@c $(v_c:%.17g)'\nprint '@e $(v_e:%.17g)'\n").values())
    assert counts[0]["c"] > 0
    assert counts[1]["c"] == counts[0]["c"]
    assert counts[1]["e"] == pytest.approx(counts[0]["e"], rel=1e-12)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("options", ["", "kernel torchscript", "chunk 7"])
@pytest.mark.parametrize("kind", ["acsf", "deep", "committee", "mixed"])
def test_features_are_those_of_pytorch(
    folder: Path, atoms: Atoms, models: dict[str, Path], kind: str, options: str, ranks: int
) -> None:
    text = setup() + style(models[kind], options) + "compute f all nnpkit features/atom\n"
    text += "dump d all custom 1 dump id c_f[*]\ndump_modify d sort id format float %.17g\nrun 0\n"
    result = lmp(folder, text, ranks)
    assert result.returncode == 0, result.output
    expected = features_of(load(models[kind]), atoms)
    np.testing.assert_allclose(
        result.dump()[:, 1:], expected, rtol=1e-9, atol=1e-6 if "e" in kind[1:2] else 1e-10
    )


def test_members_of_cluster_expansions_stand_side_by_side(folder: Path, atoms: Atoms) -> None:
    """Energies, features and forces of a committee that the fused kernel evaluates, on two ranks."""
    models = [
        expansion_model(["H", "O"]),
        expansion_model(["H", "O"], angular_channels=3, angular_cutoff=3.4),
    ]
    export_committee(models, [model_metadata(m) for m in models], folder / "expansions.pt")
    text = setup() + style(folder / "expansions.pt") + "compute f all nnpkit features/atom\n"
    text += "dump d all custom 1 dump id fx fy fz c_f[*]\ndump_modify d sort id format float %.17g\nrun 0\n"
    result = lmp(folder, text, 2)
    assert "fused, " in result.output, result.output
    loaded, found = load(folder / "expansions.pt"), result.dump()
    np.testing.assert_allclose(found[:, 4:], features_of(loaded, atoms), rtol=0, atol=1e-9)
    expected = loaded.predict(Structure.from_atoms(atoms, name="a")).forces
    np.testing.assert_allclose(found[:, 1:4], expected, rtol=0, atol=1e-9)


def test_features_follow_the_steps_that_ask(folder: Path, atoms: Atoms, models: dict[str, Path]) -> None:
    """Beside other columns, on two ranks whose atoms move, and of a frame of a rerun."""
    text = setup() + style(models["committee"])
    text += "compute f all nnpkit force_std/atom features/atom extrapolations/atom\n"
    text += "dump d all custom 4 dump.* id x y z c_f[*]\ndump_modify d sort id format float %.17g\n"
    dynamics = "velocity all create 900 1\ntimestep 0.0005\nfix 1 all nve\nrun 8\n"
    result = lmp(folder, text + dynamics, 2)
    assert result.returncode == 0, result.output
    model = load(models["committee"])
    for step in (0, 4, 8):
        found = result.dump(f"dump.{step}")
        moved = atoms.copy()
        moved.positions = found[:, 1:4]
        np.testing.assert_allclose(found[:, 5:-1], features_of(model, moved), rtol=1e-9, atol=1e-10)
        spread = model.predict(Structure.from_atoms(moved, name="a")).disagreement
        assert spread is not None
        np.testing.assert_allclose(found[:, 4], spread.forces_std, rtol=1e-7, atol=1e-9)
    frame = "dump x all custom 1 frame id x y z\ndump_modify x format float %.17g\nrun 0\nundump x\n"
    again = text.replace("dump.*", "again")
    rerun = lmp(folder, setup() + style(models["committee"]) + frame + again.split("O H\n")[1]
                + "rerun frame dump x y z\n", 2)  # fmt: skip
    np.testing.assert_allclose(rerun.dump("again")[:, 5:-1], features_of(model, atoms), rtol=1e-9, atol=1e-10)


def test_atoms_that_the_model_does_not_see_have_no_features(folder: Path, models: dict[str, Path]) -> None:
    atoms, argon = random_structure(30, TRICLINIC, seed=21), random_structure(3, TRICLINIC, seed=23)
    argon.symbols = "Ar" * 3
    write_data(folder / "data.lmp", atoms + argon, ["O", "H", "Ar"])
    text = setup() + "pair_style hybrid/overlay nnpkit lj/cut 6.0\n"
    text += f"pair_coeff * * nnpkit {models['acsf']} O H NULL\n"
    text += "pair_coeff 3 3 lj/cut 0.01 3.4\npair_coeff 1*2 3 lj/cut 0.01 2.0\n"
    text += "compute f all nnpkit features/atom\ndump d all custom 1 dump id c_f[*]\n"
    found = lmp(folder, text + "dump_modify d sort id format float %.17g\nrun 0\n", 2).dump()[:, 1:]
    np.testing.assert_allclose(found[:30], features_of(load(models["acsf"]), atoms), rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(found[30:], 0.0)


def test_sizes_that_the_model_decides(folder: Path, atoms: Atoms, models: dict[str, Path]) -> None:
    """The model has to be there, and to stay."""
    for words, other in (("member_energy", "mixed"), ("features/atom", "acsf")):
        early = f"pair_style nnpkit\ncompute c all nnpkit {words}\n"
        assert f"how many numbers {words} gives depends on the model" in lmp(folder, setup() + early).output
        changed = setup() + style(models["committee"]) + f"compute c all nnpkit {words}\nrun 0\n"
        changed += f"pair_coeff * * {models[other]} O H\nrun 0\n"
        assert "it has other members or features: 'uncompute c'" in lmp(folder, changed).output
