"""model.pt and everything else that counts as a MODEL: what is written is what is loaded, or an error says why."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import CUTOFF, ELEMENTS, cluster, small_model

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load, load_checkpoint
from nnpkit.deploy.metadata import METADATA_FILE, model_metadata
from nnpkit.deploy.targets.scripting import frame_of_test
from nnpkit.deploy.targets.torchscript import export_model, make_self_test, quiet_torchscript
from nnpkit.errors import InputError
from nnpkit.models.potential import Potential
from nnpkit.seal import seal
from nnpkit.training.checkpoint import Checkpoint, write_checkpoint

WALL = {"O-O": 2.0, "H-O": 0.95}


@pytest.fixture(scope="module")
def model():
    return small_model(wall=WALL)


@pytest.fixture(scope="module")
def model_file(model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.pt"
    export_model(model, path, {"data_sha256": "0123", "min_distance": {"H-O": 0.9}}, cluster())
    return path


def rewritten(path: Path, target: Path, changes: dict[str, bytes]) -> Path:
    """Copy of an archive with records ending in the keys of `changes` replaced, checksums put right."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            content = next((c for end, c in changes.items() if name.endswith(end)), old.read(name))
            new.writestr(name, content)
    target.write_bytes(seal(target.read_bytes()))
    return target


def with_metadata(path: Path, target: Path, **changes: object) -> Path:
    metadata = {**load(path).metadata, **changes}
    return rewritten(path, target, {METADATA_FILE: json.dumps(metadata).encode()})


def assert_same(a: LoadedModel, b: LoadedModel, tolerance: float = 1e-12) -> None:
    structures = [cluster(), cluster(seed=8, periodic=False)]
    for x, y in zip(a.predict(structures), b.predict(structures), strict=True):
        np.testing.assert_allclose(x.energies, y.energies, rtol=tolerance)
        np.testing.assert_allclose(x.forces, y.forces, atol=tolerance * np.abs(y.forces).max())
        np.testing.assert_allclose(x.virial, y.virial, atol=tolerance * np.abs(y.virial).max())


def test_the_file_computes_what_the_model_does(model, model_file: Path) -> None:
    structure = cluster()
    graph = build_graph(structure, ELEMENTS, model.cutoff)
    expected = Potential(model)(graph)
    result = load(model_file).predict(structure)
    np.testing.assert_allclose(result.energies, expected.atomic_energy.numpy(), rtol=1e-14)
    np.testing.assert_allclose(result.forces, expected.forces.numpy(), atol=1e-12)
    np.testing.assert_allclose(result.virial, expected.virial[0].numpy(), atol=1e-11)
    np.testing.assert_allclose(result.stress, -result.virial / structure.volume, rtol=1e-14)
    assert result.energy == pytest.approx(result.energies.sum(), abs=1e-10)


def test_features_are_an_exported_method(model, model_file: Path) -> None:
    graph = build_graph(cluster(), ELEMENTS, CUTOFF)
    arguments = (edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
    torch.testing.assert_close(
        load(model_file).module.features(*arguments), model.features(*arguments), atol=1e-13, rtol=0.0
    )


def test_metadata(model, model_file: Path) -> None:
    metadata = load(model_file).metadata
    assert metadata["format"] == "nnpkit-model"
    assert metadata["format_version"] == 1
    assert metadata["elements"] == ELEMENTS
    assert metadata["cutoff"] == CUTOFF
    assert metadata["units"] == {"length": "angstrom", "energy": "eV"}
    assert metadata["sign"] == "virial = -dE/dstrain"
    assert (metadata["kind"], metadata["dtype"]) == ("acsf", "float64")
    assert (metadata["data_sha256"], metadata["min_distance"]) == ("0123", {"H-O": 0.9})
    assert metadata["n_parameters"] == sum(p.numel() for p in model.parameters())
    assert set(metadata["versions"]) == {"nnpkit", "torch"}
    for t, element in enumerate(ELEMENTS):
        ranges = metadata["feature_ranges"][element]
        low, high = model.scaling.minimum[t], model.scaling.maximum[t]
        assert ranges["min"] == pytest.approx((low - 0.05 * (high - low)).tolist(), rel=1e-12)
        assert ranges["max"] == pytest.approx((high + 0.05 * (high - low)).tolist(), rel=1e-12)
    with zipfile.ZipFile(model_file) as archive:
        extra = [name for name in archive.namelist() if name.endswith("extra/" + METADATA_FILE)]
        assert json.loads(archive.read(extra[0])) == metadata


APART = Structure(["O", "H"], np.array([[0.0, 0, 0], [30.0, 0, 0]]))


def test_imported_ranges_are_those_of_their_file(model) -> None:
    """n2p2's extrapolation warnings are counted as n2p2 counts them."""
    ranges = model_metadata(model, {"source": {"format": "runner"}})["feature_ranges"]
    assert ranges["H"]["min"] == model.scaling.minimum[ELEMENTS.index("H")].tolist()
    assert ranges["H"]["max"] == model.scaling.maximum[ELEMENTS.index("H")].tolist()


@pytest.mark.parametrize("frame", [None, cluster(), cluster(symbols=["H"] * 9), APART])
def test_self_test_exercises_every_part(model, frame) -> None:
    test = make_self_test(model, frame)
    assert set(test.types.tolist()) == set(range(len(ELEMENTS)))
    features = model.features(test.edge_vec, test.neighbor_type, test.offsets, test.types)
    used = torch.zeros_like(features[: len(ELEMENTS)])
    used.index_add_(0, test.types, features.abs())
    assert bool((used > 1e-6).all())
    assert float(test.edge_gradient.abs().max()) > 1e-3


def test_isolated_atoms_are_no_frame_of_a_test() -> None:
    atom = Structure(["Cu"], np.zeros((1, 3)))
    crystal = Structure(["Cu"], np.zeros((1, 3)), cell=2.5 * np.eye(3), pbc=np.full(3, True))
    assert frame_of_test([atom, APART, crystal], ["Cu"]) is crystal
    assert frame_of_test([atom], ["Cu"]) is None


def test_exports_are_reproducible(model, tmp_path: Path) -> None:
    tests = []
    for name in ("a.pt", "b.pt"):
        export_model(model, tmp_path / name)
        tests.append(load(tmp_path / name).module.self_test())
    assert all(torch.equal(x, y) for x, y in zip(*tests, strict=True))


def test_the_model_can_be_taken_out_again(model, model_file: Path, tmp_path: Path) -> None:
    again = load(model_file).atomic_model()
    assert again.spec == model.spec
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    export_model(again, tmp_path / "again.pt")
    assert_same(load(tmp_path / "again.pt"), load(model_file))


def test_single_precision(model_file: Path) -> None:
    loaded = load(model_file)
    double = loaded.predict(cluster())
    graph = build_graph(cluster(), ELEMENTS, loaded.cutoff)
    arguments = (graph.types[graph.neighbor], graph.offsets, graph.types)
    single = loaded.module.to(torch.float32)(edge_vectors(graph).to(torch.float32), *arguments)
    assert single.dtype == torch.float64
    np.testing.assert_allclose(single.detach().numpy(), double.energies, atol=1e-4)
    assert np.abs(single.detach().numpy() - double.energies).max() > 1e-9


def test_no_atoms_and_lone_atoms(model_file: Path) -> None:
    module = load(model_file).module
    none = torch.zeros(0, dtype=torch.int64)
    edges = torch.zeros((0, 3), dtype=torch.float64, requires_grad=True)
    energy = module(edges, none, torch.zeros(1, dtype=torch.int64), none)
    (gradient,) = torch.autograd.grad(energy.sum(), edges)
    assert energy.shape == (0,)
    assert gradient.shape == (0, 3)
    alone = module(edges, none, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1]))
    assert bool(torch.isfinite(alone).all())


def test_no_warnings(model, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_model(model, tmp_path / "model.pt")
        load(tmp_path / "model.pt")


# Files that are not what they should be


def refused(path: Path, *words: str) -> None:
    """`path` is refused in one message that names it and contains `words`."""
    with pytest.raises(InputError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    for word in words:
        assert word in message


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.9, 0.999])
def test_truncated(model_file: Path, tmp_path: Path, fraction: float) -> None:
    content = model_file.read_bytes()
    path = tmp_path / "model.pt"
    path.write_bytes(content[: int(fraction * len(content))])
    refused(path, "truncated")


def test_flipped_bit(model, model_file: Path, tmp_path: Path) -> None:
    weight = model.networks.networks[0].layers[0].weight.detach().numpy().tobytes()
    content = bytearray(model_file.read_bytes())
    content[content.index(weight) + 16] ^= 0x01  # the lowest bit of the third weight
    path = tmp_path / "model.pt"
    path.write_bytes(bytes(content))
    refused(path, "damaged or was altered", "checksum")


def test_an_edited_file_is_refused_whatever_its_own_checksums(model_file: Path, tmp_path: Path) -> None:
    """Metadata that decide what a run computes, but not what the self-test does."""
    path = with_metadata(model_file, tmp_path / "model.pt", cutoff=3.0)
    assert load(path).cutoff == 3.0
    sealed = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b""
    refused(path, "no model file", "checksum")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = sealed[-78:-1] + b"?"
    refused(path, "damaged or was altered", "checksum")


def test_a_seal_is_the_digest_of_all_before_it(model_file: Path) -> None:
    content = model_file.read_bytes()
    assert content[-64:].decode() == hashlib.sha256(content[:-78]).hexdigest()
    with pytest.raises(ValueError, match="without a comment"):
        seal(content)


def test_other_weights_fail_the_self_test(model, model_file: Path, tmp_path: Path) -> None:
    weight = model.networks.networks[0].layers[0].weight.detach().numpy()
    with zipfile.ZipFile(model_file) as archive:
        name = next(n for n in archive.namelist() if archive.read(n) == weight.tobytes())
    changed = weight.copy()
    changed[0, 0] += 1e-3
    path = rewritten(model_file, tmp_path / "model.pt", {name.partition("/")[2]: changed.tobytes()})
    refused(path, "fails its self-test", "export it again")


def test_other_format_version(model_file: Path, tmp_path: Path) -> None:
    refused(
        with_metadata(model_file, tmp_path / "model.pt", format_version=2), "version 2", "expected version 1"
    )


def test_other_format_units_and_damaged_metadata(model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    refused(with_metadata(model_file, path, format="other"), "'other'", "nnpkit-model")
    refused(with_metadata(model_file, path, units={"length": "bohr", "energy": "Ha"}), "bohr")
    refused(with_metadata(model_file, path, sign="virial = dE/dstrain"), "sign")
    refused(with_metadata(model_file, path, cutoff=None), "metadata")
    refused(with_metadata(model_file, path, elements=[]), "elements")
    refused(rewritten(model_file, path, {METADATA_FILE: b"{"}), "metadata")
    refused(rewritten(model_file, path, {METADATA_FILE: b"[1]"}), "metadata")


def test_torchscript_of_another_program(tmp_path: Path) -> None:
    with quiet_torchscript():
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "no model file", "written by nnpkit")
    (tmp_path / "other.pt").write_bytes(seal((tmp_path / "other.pt").read_bytes()))
    refused(tmp_path / "other.pt", "no nnpkit model")


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "pickle.pt")
    refused(tmp_path / "pickle.pt", "no model file")
    (tmp_path / "pickle.pt").write_bytes(seal((tmp_path / "pickle.pt").read_bytes()))
    refused(tmp_path / "pickle.pt", "no TorchScript file")


def test_other_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not a model\n" * 100)
    refused(tmp_path / "text.pt", "no model file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "no model in this folder", "model.pt", "input.nn")
    refused(tmp_path / "nothing", "no such file or folder")


def test_units_are_for_runner_folders_only(model_file: Path) -> None:
    with pytest.raises(InputError, match="units do not apply"):
        load(model_file, units="bohr-hartree")


def test_a_model_without_finite_numbers_is_not_written(tmp_path: Path) -> None:
    broken = small_model()
    broken.networks.networks[0].layers[-1].bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match="NaN"):
        export_model(broken, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.pt").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nnpkit.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        export_model(model, tmp_path / "model.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]
    assert (tmp_path / "model.pt").read_text() == "old"


# Runs and checkpoints


def checkpoint(model, best, epoch: int) -> Checkpoint:
    tensors = {"model": model.state_dict(), "best": best.state_dict(), "update": {}, "schedule": {}}
    return Checkpoint(tensors, {"epoch": epoch, "step": 0, "spec": model.spec})


@pytest.fixture
def run(model, tmp_path: Path) -> Path:
    """A run that stopped before its model.pt: two checkpoints, the best epoch among neither."""
    for epoch in (9, 10):
        write_checkpoint(
            tmp_path / "run/checkpoints", checkpoint(small_model(seed=epoch, wall=WALL), model, epoch)
        )
    return tmp_path / "run"


def test_run_with_a_model(model_file: Path, run: Path) -> None:
    shutil.copy(model_file, run)
    assert load(run).where == str(run / "model.pt")


def test_run_without_a_model_gives_its_best_epoch(run: Path, model_file: Path) -> None:
    loaded = load(run)
    assert loaded.where.endswith("epoch-000010")
    assert_same(loaded, load(model_file))


def test_a_checkpoint_gives_its_own_epoch(run: Path) -> None:
    loaded = load(run / "checkpoints/epoch-000009")
    weight = small_model(seed=9, wall=WALL).networks.networks[0].layers[0].weight
    assert torch.equal(loaded.atomic_model().networks.networks[0].layers[0].weight, weight)
    assert_same(load_checkpoint(run / "checkpoints/epoch-000009"), loaded)


def test_a_checkpoint_knows_the_data_of_its_run(run: Path) -> None:
    assert load(run).metadata["data_sha256"] is None
    statistics = {"train": {"min_distance": {"H-O": {"distance": 0.91, "structure": "a#3"}}}}
    report = {"sha256": {"train": "0123"}, "statistics": statistics}
    (run / "data.json").write_text(json.dumps(report))
    metadata = load(run).metadata
    assert (metadata["data_sha256"], metadata["min_distance"]) == ("0123", {"H-O": 0.91})


def test_save_copies_a_file_and_exports_the_rest(run: Path, model_file: Path, tmp_path: Path) -> None:
    load(model_file).save(tmp_path / "copy.pt")
    assert (tmp_path / "copy.pt").read_bytes() == model_file.read_bytes()
    load(run).save(tmp_path / "exported.pt")
    assert_same(load(tmp_path / "exported.pt"), load(run))


def test_damaged_checkpoints(run: Path) -> None:
    path = run / "checkpoints/epoch-000010"
    content = (path / "state.safetensors").read_bytes()
    (path / "state.safetensors").write_bytes(content[: len(content) // 2])
    refused(path, "damaged")
    (path / "state.safetensors").write_bytes(content)
    state = json.loads((path / "state.json").read_text())
    state["spec"]["networks"]["O"]["hidden"] = [4, 4]
    (path / "state.json").write_text(json.dumps(state))
    refused(path, "do not fit")
