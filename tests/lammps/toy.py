"""A potential small enough to be written twice: as a model.pt for the plugin, and in numpy as its judge.

With ``f = (1 - r²/rc²)³`` inside the cutoff and 0 outside,

    E_i = e0[t_i] + sum_j A[t_i,t_j] f_ij² + B[t_i] |M_i|² + C[t_i] tr(T_i²)
    M_i = sum_j w[t_i,t_j] f_ij r_ij,    T_i = sum_j w[t_i,t_j] f_ij r_ij (x) r_ij

Written out, |M_i|² and tr(T_i²) are sums over pairs of neighbours of (r_ij . r_ik) and (r_ij . r_ik)²: a
two- and three-body potential, smooth at the cutoff, repulsive enough for dynamics. It shares nothing with the
models that nnpkit trains.
"""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.neighborlist import primitive_neighbor_list
from torch import Tensor, nn

from nnpkit.seal import seal

ELEMENTS = ["O", "H"]
CUTOFF = 3.5  # Å
E0 = [-3.25, 0.75]  # eV
A = [[2.0, 1.1], [0.9, 0.6]]  # eV
B = [0.011, -0.004]  # eV/Å²
C = [0.0007, 0.0004]  # eV/Å⁴
W = [[1.0, 0.6], [0.8, 0.5]]


class ToyModel(nn.Module):
    """The potential as a function of edge vectors, with the methods that a model.pt has to have.

    Pairs closer than `hole` (Å) give NaN, as models do far outside their data. `cancelling` (eV) is added to energies
    and taken away again, which only double precision survives.
    """

    def __init__(self, hole: float = 0.0, cancelling: float = 0.0) -> None:
        super().__init__()
        self.cancelling = cancelling
        self.hole_squared = hole**2
        for name, values in (("e0", E0), ("a", A), ("b", B), ("c", C), ("w", W)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        self.cutoff_squared = CUTOFF**2
        for name in ("edge_vec", "neighbor_type", "offsets", "types", "energy", "gradient"):
            self.register_buffer(f"test_{name}", torch.zeros(0))

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        n = types.size(0)
        center = torch.repeat_interleave(torch.arange(n, device=types.device), offsets[1:] - offsets[:-1])
        tc = types[center]
        r_squared = (edge_vec * edge_vec).sum(1)
        f = (1.0 - r_squared / self.cutoff_squared).clamp(min=0.0) ** 3
        f = torch.where(r_squared < self.hole_squared, float("nan"), f)
        wf = self.w[tc, neighbor_type] * f
        pair = torch.zeros(n, dtype=edge_vec.dtype, device=edge_vec.device)
        pair = pair.index_add(0, center, self.a[tc, neighbor_type] * f * f)
        vector = torch.zeros(n, 3, dtype=edge_vec.dtype, device=edge_vec.device)
        vector = vector.index_add(0, center, wf[:, None] * edge_vec)
        tensor = torch.zeros(n, 3, 3, dtype=edge_vec.dtype, device=edge_vec.device)
        tensor = tensor.index_add(0, center, wf[:, None, None] * edge_vec[:, :, None] * edge_vec[:, None, :])
        energy = self.e0[types] + pair + self.cancelling
        energy = energy - self.cancelling
        energy = energy + self.b[types] * (vector * vector).sum(1)
        return (energy + self.c[types] * (tensor * tensor).sum([1, 2])).double()

    @torch.jit.export
    def self_test(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        return (
            self.test_edge_vec, self.test_neighbor_type, self.test_offsets, self.test_types,
            self.test_energy, self.test_gradient,
        )  # fmt: skip


def store_self_test(model: ToyModel) -> None:
    """Give `model` a frame of four atoms with seven edges, and what it says about them."""
    edge_vec = torch.tensor(np.random.default_rng(5).uniform(-1.7, 1.7, (7, 3)), requires_grad=True)
    model.test_neighbor_type = torch.tensor([0, 1, 1, 0, 1, 0, 1])
    model.test_offsets = torch.tensor([0, 3, 5, 5, 7])
    model.test_types = torch.tensor([0, 1, 0, 1])
    energy = model(edge_vec, model.test_neighbor_type, model.test_offsets, model.test_types)
    (model.test_gradient,) = torch.autograd.grad(energy.sum(), edge_vec)
    model.test_edge_vec, model.test_energy = edge_vec.detach(), energy.detach()


METADATA = {
    "format": "nnpkit-model",
    "format_version": 1,
    "kind": "toy",
    "elements": ELEMENTS,
    "cutoff": CUTOFF,
    "units": {"length": "angstrom", "energy": "eV"},
    "sign": "virial = -dE/dstrain",
    "dtype": "float64",
    "n_parameters": 0,
    "versions": {"nnpkit": "0.0", "torch": torch.__version__},
}


def write_toy(
    path: Path,
    *,
    tamper: float = 0.0,
    hole: float = 0.0,
    cancelling: float = 0.0,
    metadata: dict | None = None,
) -> Path:
    """Write the toy as a model.pt; `tamper` is added to a weight after the self-test has been stored."""
    model = ToyModel(hole, cancelling)
    store_self_test(model)
    model.a[0, 1] += tamper
    text = json.dumps(METADATA if metadata is None else metadata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(model), buffer, _extra_files={"metadata.json": text})
    path.write_bytes(seal(buffer.getvalue()))
    return path


class Reference:
    """The same potential in numpy, on periodic structures; derivatives by complex steps.

    The energy is a polynomial of the coordinates, so ``Im E(x + ih)/h`` is its derivative to the last digit:
    no formula for forces or stress that could share a mistake with the plugin.
    """

    STEP = 1e-30

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms
        self.types = np.array([ELEMENTS.index(s) for s in atoms.symbols])
        self.i, self.j, self.shift = primitive_neighbor_list(
            "ijS", atoms.pbc, atoms.cell[:], atoms.positions, CUTOFF + 0.05, self_interaction=False
        )

    def atomic_energies(self, positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
        i, j, n = self.i, self.j, len(self.types)
        r = positions[j] + self.shift @ cell - positions[i]
        x = 1.0 - (r * r).sum(1) / CUTOFF**2
        f = np.where(x.real > 0.0, x, 0.0) ** 3
        ti, tj = self.types[i], self.types[j]
        wf = np.array(W)[ti, tj] * f

        def per_atom(values: np.ndarray) -> np.ndarray:
            total = np.zeros((n, *values.shape[1:]), dtype=values.dtype)
            np.add.at(total, i, values)
            return total

        vector = per_atom(wf[:, None] * r)
        tensor = per_atom(wf[:, None, None] * r[:, :, None] * r[:, None, :])
        energy = np.array(E0)[self.types] + per_atom(np.array(A)[ti, tj] * f * f)
        energy = energy + np.array(B)[self.types] * (vector**2).sum(1)
        return energy + np.array(C)[self.types] * (tensor**2).sum((1, 2))

    @property
    def energies(self) -> np.ndarray:
        """(N,) eV."""
        return self.atomic_energies(self.atoms.positions, self.atoms.cell[:])

    @property
    def energy(self) -> float:
        return float(self.energies.sum())

    @property
    def forces(self) -> np.ndarray:
        """(N, 3) eV/Å."""
        x, cell = self.atoms.positions, self.atoms.cell[:]
        forces = np.zeros_like(x)
        for index in np.ndindex(*x.shape):
            moved = x.astype(complex)
            moved[index] += 1j * self.STEP
            forces[index] = -self.atomic_energies(moved, cell).sum().imag / self.STEP
        return forces

    def energies_strained(self, strain: np.ndarray) -> np.ndarray:
        """Atomic energies after ``r -> (1 + strain) r``."""
        deform = np.eye(3) + strain
        return self.atomic_energies(self.atoms.positions @ deform.T, self.atoms.cell[:] @ deform.T)

    @property
    def atomic_virials(self) -> np.ndarray:
        """(N, 3, 3) eV: -dE_i/dstrain."""
        virials = np.zeros((len(self.types), 3, 3))
        for a, b in np.ndindex(3, 3):
            strain = np.zeros((3, 3), dtype=complex)
            strain[a, b] = 1j * self.STEP
            virials[:, a, b] = -self.energies_strained(strain).imag / self.STEP
        return virials

    @property
    def virial(self) -> np.ndarray:
        """(3, 3) eV: -dE/dstrain."""
        return self.atomic_virials.sum(0)

    def virial_by_finite_differences(self, step: float = 1e-3) -> np.ndarray:
        """(3, 3) eV: -dE/dstrain by central differences of fourth order."""
        virial = np.zeros((3, 3))
        for a, b in np.ndindex(3, 3):
            unit = np.zeros((3, 3))
            unit[a, b] = step
            e = {k: self.energies_strained(k * unit).sum() for k in (-2, -1, 1, 2)}
            virial[a, b] = -(8.0 * (e[1] - e[-1]) - (e[2] - e[-2])) / (12.0 * step)
        return virial
