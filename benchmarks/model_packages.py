"""A model as TorchScript, as a program of torch.export, and compiled by AOTInductor: does it work, how fast, how big.

    python benchmarks/model_packages.py model.pt structure.xyz [--repeats 20]

All three give atomic energies and their gradient by the edges, for any numbers of atoms and edges, of the potential
without its short-range wall; the compiled kernels of nnpkit stand beside them, with it. AOTInductor needs a C++
compiler. The last line is ``RESULT {json}``: for each package milliseconds of an evaluation (processor time of one
thread, median), largest difference of the gradient from TorchScript's (eV/Å) on the structure and on a larger one that
it was not made with, MB of the file and seconds to make it; or what its maker says where it does not work.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import nnpkit
from nnpkit.data.formats.reading import read
from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.families.cluster_expansion.harmonics import harmonics
from nnpkit.families.cluster_expansion.radial import radial_functions
from nnpkit.families.factory import build_model
from nnpkit.models.atomic_model import AtomicModel

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Evaluate = Callable[..., tuple[Tensor, Tensor]]


class WithGradient(nn.Module):
    """Atomic energies (n,) in eV and the gradient (E, 3) of their sum in eV/Å."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Any:
        """See `nnpkit.models.atomic_model.AtomicModel.forward`."""
        edge_vec = edge_vec.detach().requires_grad_(True)
        energy = self.model(edge_vec, neighbor_type, offsets, types)
        (gradient,) = torch.autograd.grad([energy.sum()], [edge_vec])
        return energy.detach(), gradient


class WithoutChoices(nn.Module):
    """A cluster expansion without shapes that depend on the numbers, which torch.export refuses: every network sees
    every atom, every radial function every edge, and what does not count is multiplied by zero."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # a tensor made while a model is traced would be a constant that the program cannot hold
        self.register_buffer("reference", torch.tensor(model.reference_energies, dtype=torch.float64))

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Atomic energies (n,) in eV."""
        model, d = self.model, self.model.descriptor
        n, counts = types.shape[0], offsets[1:] - offsets[:-1]
        numbers = torch.arange(n, device=types.device)
        center = torch.repeat_interleave(numbers, counts, output_size=edge_vec.shape[0])
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        pair = types.index_select(0, center) * d.n_types + neighbor_type
        found = []
        for cutoff, size, coefficients in (
            (d.radial_cutoff, d.radial_basis, d.radial_coefficients()),
            (d.angular_cutoff, d.angular_basis, d.angular_coefficients()),
        ):
            inside = (r < cutoff).to(r.dtype)
            functions = radial_functions(r.clamp(max=cutoff), size, cutoff, d.cutoff_kind) * inside.unsqueeze(
                1
            )
            found.append((functions.unsqueeze(1) * coefficients.flatten(0, 1).index_select(0, pair)).sum(-1))
        radial = torch.zeros((n, found[0].shape[1]), dtype=r.dtype).index_add(0, center, found[0])
        y = harmonics(edge_vec / r.unsqueeze(1), d.l_max)
        outer = y.unsqueeze(2) * found[1].unsqueeze(1)
        a = torch.zeros((n, *outer.shape[1:]), dtype=r.dtype).index_add(0, center, outer)
        scaled = model.scaling(d.features_of(radial, a), types)
        every = torch.stack(
            [net(scaled[:, : net.n_inputs]).reshape(n) for net in model.networks.networks], dim=1
        )
        output = every.gather(1, types.unsqueeze(1)).squeeze(1).to(torch.float64)
        return output * model.energy_scale + self.reference.index_select(0, types)


def inputs_of(structure: Structure, metadata: Any, cutoff: float) -> Inputs:
    """What models take, of one structure."""
    graph = build_graph(structure, metadata["elements"], cutoff)
    return edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types


def seconds_of(evaluate: Evaluate, inputs: Inputs, repeats: int) -> float:
    """Median processor time of an evaluation."""
    for _ in range(5):
        evaluate(*inputs)
    found = []
    for _ in range(repeats):
        began = time.process_time()
        evaluate(*inputs)
        found.append(time.process_time() - began)
    return float(np.median(found))


def exported(model: nn.Module, inputs: Inputs) -> Any:
    """An exported program with any numbers of atoms and edges.

    torch.export refuses autograd in what it exports, so that the backward pass is traced first, like any operations.
    """
    atoms, edges = torch.export.Dim("atoms", min=2), torch.export.Dim("edges", min=2)
    shapes = ({0: edges}, {0: edges}, {0: atoms + 1}, {0: atoms})
    traced = make_fx(WithGradient(model), tracing_mode="symbolic", _allow_non_fake_inputs=True)(*inputs)
    return torch.export.export(traced, inputs, dynamic_shapes=shapes, strict=False)


def packages(model: nn.Module, path: Path, inputs: Inputs, folder: Path) -> dict[str, Any]:
    """Name to (function, file, seconds to make it), or to the words of a failure."""
    made: dict[str, Any] = {}
    scripted = torch.jit.load(str(path)).eval()
    made["torchscript"] = (WithGradient(scripted), path, 0.0)
    made["eager"] = (WithGradient(model), path, 0.0)
    program = None
    if isinstance(model, AtomicModel) and hasattr(model.descriptor, "polynomials"):
        model = WithoutChoices(model)
        made["eager, without choices"] = (WithGradient(model), path, 0.0)
    for name in ("export", "aotinductor"):
        began, file = time.monotonic(), folder / f"{name}.pt2"
        try:
            if name == "export":
                program = exported(model, inputs)
                torch.export.save(program, str(file))
                made[name] = (program.module(), file, time.monotonic() - began)
            elif program is not None:
                torch._inductor.aoti_compile_and_package(program, package_path=str(file))
                evaluate = torch._inductor.aoti_load_package(str(file))
                made[name] = (evaluate, file, time.monotonic() - began)
        except Exception as error:  # whatever a compiler raises is the result
            made[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return made


def main() -> int:
    """Make and measure all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("structure", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    loaded = nnpkit.load(arguments.model)
    model = build_model(loaded.metadata["spec"])
    known = {k.removeprefix("model."): v for k, v in loaded.module.state_dict().items()}
    model.load_state_dict({k: known[k] for k in model.state_dict()})
    model.terms = None
    model.eval().requires_grad_(False)
    structure = read(arguments.structure)[0]
    larger = Structure.from_atoms(structure.to_atoms().repeat((2, 1, 1)), "larger")
    inputs = inputs_of(structure, loaded.metadata, float(loaded.cutoff))
    others = inputs_of(larger, loaded.metadata, float(loaded.cutoff))
    result: dict[str, Any] = {"atoms": structure.n_atoms, "edges": len(inputs[0]), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "model.pt")
        export_model(model, file)
        made = packages(model, file, inputs, Path(name))
        expected = [made["torchscript"][0](*one)[1] for one in (inputs, others)]
        for package, what in made.items():
            if isinstance(what, str):
                result[package] = what
                continue
            evaluate, file, seconds = what
            try:
                pairs = zip((inputs, others), expected, strict=True)
                errors = [float((evaluate(*one)[1] - e).abs().max()) for one, e in pairs]
                milliseconds = round(1000 * seconds_of(evaluate, inputs, arguments.repeats), 2)
            except Exception as error:
                result[package] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                continue
            result[package] = {
                "milliseconds": milliseconds, "differences": errors, "megabytes": round(file.stat().st_size / 1e6, 3),
                "seconds_to_make": round(seconds, 1),
            }  # fmt: skip
            print(package, result[package], flush=True)
    calculator = loaded.calculator()
    atoms = structure.to_atoms()
    atoms.calc = calculator

    def kernel(*_: Tensor) -> tuple[Tensor, Tensor]:
        calculator.reset()
        return torch.tensor(0.0), torch.as_tensor(atoms.get_forces())

    result["kernel through ASE"] = {
        "milliseconds": round(1000 * seconds_of(kernel, inputs, arguments.repeats), 2)
    }
    print("RESULT", json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
