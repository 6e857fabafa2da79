"""A potential with charges as a model.pt: its numbers, its description and a self-test, but nothing that runs.

Charges depend on whole structures, so that there is no function of environments that LAMMPS could call. A program that
loads the file as TorchScript and calls it is told so.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.metadata import METADATA_FILE, model_metadata
from nnpkit.deploy.targets.scripting import quiet_torchscript, random_cluster
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.charged_potential import ChargedPotential
from nnpkit.seal import seal

__all__ = ["check_charged", "export_charged"]

_TOLERANCE = 1e-9  # relative to max(1, |value|): eV, eV/Å, e


class Refusing(nn.Module):
    """What stands in the place of a function of environments."""

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Raise."""
        raise RuntimeError(
            "this potential has charges: it is evaluated in ASE and Python, LAMMPS cannot do it yet"
        )


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    """Hold `value` as a buffer of the dotted `name`."""
    *path, last = name.split(".")
    for part in path:
        if part not in dict(module.named_children()):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    module.register_buffer(last, value.detach().clone())


def _answers(model: ChargedModel, structure: Structure) -> dict[str, Tensor]:
    graph = build_graph(structure, model.elements, model.cutoff)
    found = ChargedPotential(model).predict(graph)
    assert found.charges is not None
    return {"energy": found.energy, "forces": found.forces, "charges": found.charges}


def export_charged(
    model: ChargedModel,
    path: str | Path,
    extra: Mapping[str, Any] | None = None,
    frame: Structure | None = None,
) -> None:
    """Write `model` to `path`, atomically; arguments as of `nnpkit.deploy.targets.torchscript.export_model`.

    Raises
    ------
    InputError
        If the model's numbers on the self-test are not finite.
    """
    if frame is None or not set(model.elements) <= set(frame.symbols):
        frame = random_cluster(model.elements, model.cutoff)
    answers = _answers(model, frame)
    if not all(bool(torch.isfinite(value).all()) for value in answers.values()):
        raise InputError(
            "the model gives NaN or infinite energies", where=str(path), hint="look at its training"
        )
    module = Refusing()
    for name, value in model.state_dict().items():
        _put(module, f"model.{name}", value)
    given = {
        "positions": torch.tensor(frame.positions), "cell": torch.tensor(frame.cell),
        "periodic": torch.tensor(frame.pbc.tolist()), "total_charge": torch.tensor(frame.total_charge or 0.0),
        "types": torch.tensor([model.elements.index(symbol) for symbol in frame.symbols]),
    }  # fmt: skip
    for name, value in (given | answers).items():
        _put(module, f"test.{name}", value)
    metadata = json.dumps(model_metadata(model, extra), indent=1, allow_nan=False)
    with quiet_torchscript():
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(module), buffer, _extra_files={METADATA_FILE: metadata})
    with atomic_write(path, "wb") as stream:
        stream.write(seal(buffer.getvalue()))


def check_charged(model: ChargedModel, state: Mapping[str, Tensor], where: str) -> None:
    """Evaluate the self-test among the tensors of a file and compare with what was stored at export.

    Raises
    ------
    InputError
        If it is missing or fails.
    """
    try:
        test = {
            name.removeprefix("test."): value for name, value in state.items() if name.startswith("test.")
        }
        frame = Structure(
            [model.elements[t] for t in test["types"].tolist()], test["positions"].numpy(), test["cell"].numpy(),
            test["periodic"].numpy(), total_charge=float(test["total_charge"]), name="self-test",
        )  # fmt: skip
        found = _answers(model, frame)
        off = {
            name: (value - test[name]).abs() / test[name].abs().clamp(min=1.0)
            for name, value in found.items()
        }
    except (KeyError, IndexError, RuntimeError) as failure:
        reason = str(failure).strip().splitlines()[-1][:200]
        raise InputError(f"the model cannot be evaluated ({reason})", where=where) from None
    worst = {name: float(value.max()) for name, value in off.items()}
    if not all(value <= _TOLERANCE for value in worst.values()):
        words = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
        raise InputError(
            f"the model fails its self-test: {words} off", where=where, expected=f"{_TOLERANCE:g}",
            hint="the file was altered or this torch computes something else; export it again",
        )  # fmt: skip
