"""Checkpoints: exact, complete or absent, and refused when they are damaged or of something else."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nnpkit.errors import InputError
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.families.factory import build_model, initialise
from nnpkit.training.checkpoint import (
    Checkpoint,
    first_difference,
    latest_checkpoint,
    model_from,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)  # fmt: skip

NAMES = ["state.json", "state.safetensors", "update.block-00000.safetensors"]


def spec(hidden: int = 4) -> dict:
    function = SymmetryFunction("G2", "Cu", ("Cu",), 4.0, eta=0.1)
    return {
        "kind": "acsf", "elements": ["Cu"], "cutoff_kind": "cosine", "cutoff_inner": 0.0,
        "functions": [function.to_dict()], "energy_scale": 1.0, "reference_energies": {"Cu": -3.5}, "wall": {},
        "networks": {"Cu": {"hidden": [hidden], "activations": ["tanh", "linear"]}},
    }  # fmt: skip


def checkpoint(epoch: int = 3, step: int = 0) -> Checkpoint:
    model = build_model(spec())
    initialise(model, "xavier", epoch)
    best = {name: tensor + 1.0 for name, tensor in model.state_dict().items()}
    covariance = torch.rand(13, 13, dtype=torch.float64) * 1e-300
    tensors = {
        "model": model.state_dict(),
        "best": best,
        "update": {
            "block-00000/triangle": covariance,
            "updates": torch.tensor(7),
            "0.exp_avg": torch.rand(3),
        },
        "schedule": {"generator": torch.Generator().get_state(), "position": torch.tensor(step)},
    }
    return Checkpoint(
        tensors, {"epoch": epoch, "step": step, "spec": spec(), "config": {"seed": 1}, "text": "µ"}
    )


def test_round_trip_is_exact(tmp_path: Path) -> None:
    written = checkpoint(3, 17)
    path = write_checkpoint(tmp_path, written)
    assert path.name == "epoch-000003-step-000017"
    assert sorted(p.name for p in path.iterdir()) == NAMES
    read = read_checkpoint(path)
    assert read.state.items() >= written.state.items()
    assert read.state["versions"]["torch"] == torch.__version__
    for group, tensors in written.tensors.items():
        assert read.tensors[group].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert read.tensors[group][name].dtype == tensor.dtype
            assert torch.equal(read.tensors[group][name], tensor)
    weights = [p.detach() for p in model_from(read).parameters()]
    best = [p.detach() for p in model_from(read, best=True).parameters()]
    assert all(torch.equal(b, w + 1.0) for w, b in zip(weights, best, strict=True))


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    for epoch, step in ((1, 0), (2, 0), (9, 0), (10, 0), (10, 5), (11, 0)):
        write_checkpoint(tmp_path / "checkpoints", checkpoint(epoch, step))
    (tmp_path / "checkpoints" / "epoch-000012").mkdir()  # incomplete: counts as nothing
    prune_checkpoints(tmp_path / "checkpoints", 2, best_epoch=2)
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["epoch-000002", "epoch-000010-step-000005", "epoch-000011", "epoch-000012"]
    assert latest_checkpoint(tmp_path).name == "epoch-000011"
    assert latest_checkpoint(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("call", ["nnpkit.training.checkpoint_files.os.fsync", "nnpkit.files.os.replace"])
def test_a_full_disk_leaves_the_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_checkpoint(tmp_path, checkpoint(1))
    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        with pytest.raises(
            InputError, match=r"epoch-000002: the checkpoint cannot be written \(No space left"
        ):
            write_checkpoint(tmp_path, checkpoint(2))
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-000001"]
    read_checkpoint(tmp_path / "epoch-000001")


LIMITED = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from test_checkpoint import checkpoint
from nnpkit.errors import InputError
from nnpkit.training.checkpoint import write_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    write_checkpoint({folder!r}, checkpoint(2))
except InputError as error:
    print(error)
"""


def test_the_same_when_the_operating_system_refuses_to_write(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    script = LIMITED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the checkpoint cannot be written" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-000001"]


def damage(path: Path, **changes: object) -> None:
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, **changes}))


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, checkpoint())
    with pytest.raises(InputError, match="is no checkpoint; expected a folder such as"):
        read_checkpoint(tmp_path)
    damage(path, format_version=7)
    with pytest.raises(InputError, match="format version 7; expected version 2"):
        read_checkpoint(path)
    damage(path, format="other")
    with pytest.raises(InputError, match=r"damaged \(state.json is not of a checkpoint\)"):
        read_checkpoint(path)


def test_tensors_of_another_model(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, checkpoint())
    damage(path, spec=spec(hidden=5))
    with pytest.raises(
        InputError, match=r"here: the checkpoint's tensors do not fit its model .*size mismatch"
    ):
        model_from(read_checkpoint(path), "here")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(NAMES),
    cut=st.floats(0, 0.999),
    noise=st.binary(max_size=9),
)
def test_truncated_or_overwritten_files(tmp_path: Path, name: str, cut: float, noise: bytes) -> None:
    path = write_checkpoint(tmp_path, checkpoint())
    content = (path / name).read_bytes()
    damaged = content[: int(cut * len(content))] + noise
    assume(damaged.strip() != content.strip())  # white space at the end of JSON is no damage
    (path / name).write_bytes(damaged)
    with pytest.raises(InputError, match=r"epoch-000003: .*(damaged|version)"):
        dict(read_checkpoint(path).tensors["update"])


def test_first_difference() -> None:
    a = {"seed": 1, "model": {"network": {"hidden": [25, 25]}, "wall": "auto"}}
    b = {"seed": 1, "model": {"network": {"hidden": [25, 10]}, "wall": "off"}}
    assert first_difference(a, a) is None
    assert first_difference(a, b) == ("model.network.hidden", [25, 25], [25, 10])
    assert first_difference({}, {"x": 1}) == ("x", None, 1)
