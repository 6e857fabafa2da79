"""A potential with charges as a model.pt: its stages, and a self-test of the whole.

Charges depend on whole structures, so that no function of environments gives the energy. What LAMMPS calls are the
stages before and after the charges are made, see `nnpkit.models.charged_stages`; they have a self-test of their own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.metadata import METADATA_FILE, model_metadata
from nnpkit.deploy.targets.scripting import (
    MOST_ATOMS,
    ExportedStages,
    SelfTest,
    energies_of_test,
    quiet_torchscript,
    random_cluster,
)
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.charged_stages import ChargedStages
from nnpkit.models.networks import AtomicNetwork
from nnpkit.models.sum_model import SumModel, charged_part
from nnpkit.models.sum_potential import potential_of
from nnpkit.seal import seal

__all__ = [
    "OF_CHARGES",
    "ChargedExport",
    "charged_export",
    "check_charged",
    "export_charged",
    "write_scripted",
]

OF_CHARGES = ("kernel_members", "fields", "electrostatics")
"""Metadata that LAMMPS makes the charges by."""
_TOLERANCE = 1e-9  # relative to max(1, |value|): eV, eV/Å, e


def _put(module: nn.Module, name: str, value: Tensor) -> None:
    """Hold `value` as a buffer of the dotted `name`."""
    *path, last = name.split(".")
    for part in path:
        if part not in dict(module.named_children()):
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    module.register_buffer(last, value.detach().clone())


def _answers(model: AtomicModel, structure: Structure) -> dict[str, Tensor]:
    graph = build_graph(structure, model.elements, model.cutoff)
    found = potential_of(model).predict(graph)
    assert found.charges is not None
    return {"energy": found.energy, "forces": found.forces, "charges": found.charges}


def _stages_of(model: AtomicModel) -> Any:
    return model.as_stages() if isinstance(model, SumModel) else ChargedStages(model)


def _test_of_stages(model: AtomicModel, structure: Structure) -> SelfTest:
    """What the stages make of a structure, or of a random cluster instead of a large one."""
    if structure.n_atoms > MOST_ATOMS:
        structure = random_cluster(model.elements, model.cutoff)
    graph = build_graph(structure, model.elements, model.cutoff)
    if not len(graph.neighbor):
        graph = build_graph(random_cluster(model.elements, model.cutoff), model.elements, model.cutoff)
    vectors, nothing = edge_vectors(graph).requires_grad_(True), torch.zeros(0)
    arguments = (vectors, graph.types[graph.neighbor], graph.offsets, graph.types)
    test = SelfTest(*arguments, nothing, nothing, graph.neighbor)
    energy = energies_of_test(_stages_of(model), test)
    (gradient,) = torch.autograd.grad(energy.sum(), vectors)
    return test._replace(edge_vec=vectors.detach(), atomic_energy=energy.detach(), edge_gradient=gradient)


def _for_lammps(model: AtomicModel, description: Mapping[str, Any]) -> dict[str, Any]:
    """What the plugin has to know of the charges to make them of the first stage.

    ``kernel_members`` describes the short-range part and each network of charges as potentials with the same features,
    which fused kernels evaluate, together where energies do not depend on the charges; None of a sum, or where the
    networks are of another kind. ``seen`` says that the networks of the energies have the charge as an input.
    """
    charged = charged_part(model)
    assert charged is not None
    types = [charged.elements.index(element) for element in model.elements]
    return {
        "kernel_members": None if isinstance(model, SumModel) else _as_members(charged, description),
        "fields": [["charge", len(charged.charge_networks)]],
        "electrostatics": {
            "generation": charged.generation,
            "widths": charged.widths[types].tolist(),
            "hardness": charged.hardness[types].tolist() if charged.generation == "fourth" else None,
            "screening": charged.screening,
            "seen": charged.charge_input,
        },
    }


def _as_members(model: ChargedModel, description: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Short-range part and networks of the charges as members of a committee, if a kernel can take them so."""
    spec = dict(description["spec"])
    charges = spec.pop("charges")
    spec["kind"] = spec.pop("family")
    own = {"networks": charges["networks"], "energy_scale": model.charge_scale, "wall": {}}
    own["reference_energies"] = dict.fromkeys(model.elements, 0.0)
    specs = [spec, *([{**spec, **own}] * len(model.charge_networks))]
    if not all(isinstance(network, AtomicNetwork) for network in model.networks.networks):
        return None
    if model.charge_input:
        specs[0] = {**spec, "charge_input": True}
    return [{**description, "kind": spec["kind"], "spec": member} for member in specs]


class ChargedExport(NamedTuple):
    """What is written of a potential with charges."""

    module: ExportedStages  # to be scripted
    description: dict[str, Any]  # its metadata


def charged_export(
    model: AtomicModel, description: Mapping[str, Any], frame: Structure | None, where: str
) -> ChargedExport:
    """What is written of `model`, which `description` describes, with a self-test on `frame` or a random cluster.

    Raises
    ------
    InputError
        If the model's numbers on the self-test are not finite.
    """
    if frame is None or not set(model.elements) <= set(frame.symbols):
        frame = random_cluster(model.elements, model.cutoff)
    answers = _answers(model, frame)
    if not all(bool(torch.isfinite(value).all()) for value in answers.values()):
        raise InputError("the model gives NaN or infinite energies", where=where, hint="look at its training")
    module = ExportedStages(_stages_of(model), _test_of_stages(model, frame))
    given = {
        "positions": torch.tensor(frame.positions), "cell": torch.tensor(frame.cell),
        "periodic": torch.tensor(frame.pbc.tolist()), "total_charge": torch.tensor(frame.total_charge or 0.0),
        "types": torch.tensor([model.elements.index(symbol) for symbol in frame.symbols]),
    }  # fmt: skip
    for name, value in (given | answers).items():
        _put(module, f"test.{name}", value)
    return ChargedExport(module, {**description, **_for_lammps(model, description)})


def export_charged(
    model: AtomicModel,
    path: str | Path,
    extra: Mapping[str, Any] | None = None,
    frame: Structure | None = None,
) -> None:
    """Write `model` to `path`, atomically; arguments as of `nnpkit.deploy.targets.torchscript.export_model`.

    Raises
    ------
    InputError
        As `charged_export`.
    """
    module, description = charged_export(model, model_metadata(model, extra), frame, str(path))
    write_scripted(module, description, path)


def write_scripted(module: nn.Module, description: Mapping[str, Any], path: str | Path) -> None:
    """Write a module and its metadata as a sealed TorchScript archive, atomically."""
    metadata = json.dumps(description, indent=1, allow_nan=False)
    with quiet_torchscript():
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(module), buffer, _extra_files={METADATA_FILE: metadata})
    with atomic_write(path, "wb") as stream:
        stream.write(seal(buffer.getvalue()))


def check_charged(model: AtomicModel, state: Mapping[str, Tensor], where: str) -> None:
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
