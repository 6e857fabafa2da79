"""A TorchScript file for GROMACS' NNPot interface as a deploy target.

GROMACS gives positions (nm), atomic numbers, box (nm) and periodic directions in the order of the lines
``nnpot-model-input1..4`` of its mdp file, and takes the energy (kJ/mol), whose gradient it takes for the forces. It has
no list of neighbours for us, so the file finds pairs itself: its cost grows as the square of the number of atoms.

Reference: GROMACS reference manual, "Neural Network Potentials".
"""

from __future__ import annotations

from pathlib import Path

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.targets.contract import DeployTarget, TargetOptions
from nnpkit.deploy.targets.metatomic_file import require_scripted_whole
from nnpkit.deploy.targets.torchscript import quiet_torchscript
from nnpkit.errors import InputError
from nnpkit.files import atomic_write

__all__ = ["GROMACS_FILE", "GromacsModel"]

_MDP = (
    "nnpot-active = true", "nnpot-modelfile = {name}", "nnpot-input-group = System",
    "nnpot-model-input1 = atom-positions", "nnpot-model-input2 = atom-numbers", "nnpot-model-input3 = box",
    "nnpot-model-input4 = pbc",
)  # fmt: skip


class GromacsModel(nn.Module):
    """Energy of a group of atoms in GROMACS' units.

    Parameters
    ----------
    model : nn.Module
        With the arguments of `nnpkit.models.atomic_model.AtomicModel.forward`.
    numbers : list of int
        Atomic number of each type.
    cutoff : float
        Å.
    """

    def __init__(self, model: nn.Module, numbers: list[int], cutoff: float) -> None:
        super().__init__()
        self.model = model
        self.cutoff = cutoff
        types = torch.full((max(numbers) + 1,), -1, dtype=torch.int64)
        types[torch.tensor(numbers)] = torch.arange(len(numbers))
        self.register_buffer("type_of_number", types)

    def forward(self, positions: Tensor, numbers: Tensor, box: Tensor, pbc: Tensor) -> Tensor:
        """Energy in kJ/mol.

        Parameters
        ----------
        positions : Tensor
            (N, 3) nm.
        numbers : Tensor
            (N,) atomic numbers.
        box : Tensor
            (3, 3) nm, vectors as rows.
        pbc : Tensor
            (3,) bool.
        """
        x, cell = positions.to(torch.float64) * 10.0, box.to(torch.float64) * 10.0
        known = self.type_of_number.index_select(
            0, numbers.to(torch.int64).clamp(max=len(self.type_of_number) - 1)
        )
        if bool((known < 0).any()) or bool((numbers >= len(self.type_of_number)).any()):
            raise RuntimeError("nnpkit: an element of this system is unknown to the model")
        pairs, shifts = self.pairs(x.detach(), cell, pbc)
        center, neighbor = pairs[0], pairs[1]
        edge_vec = x.index_select(0, neighbor) + shifts @ cell - x.index_select(0, center)
        counts = torch.bincount(center, minlength=x.shape[0])
        offsets = torch.cat([torch.zeros_like(counts[:1]), torch.cumsum(counts, 0)])
        energy = self.model(edge_vec, known.index_select(0, neighbor), offsets, known).sum()
        return (energy * 96.48533212331).to(positions.dtype)

    def pairs(self, x: Tensor, cell: Tensor, pbc: Tensor) -> tuple[Tensor, Tensor]:
        """Centres and neighbours (2, E) sorted by centre, and the image (E, 3) of each neighbour."""
        whole = torch.zeros_like(x)  # what brings an atom into the box, in lattice vectors
        reach = [0, 0, 0]
        if bool(pbc.any()):
            inverse = torch.linalg.inv(cell)
            for k in range(3):
                if bool(pbc[k]):
                    whole[:, k] = -torch.floor((x @ inverse)[:, k])
                    reach[k] = int(torch.ceil(self.cutoff * inverse[:, k].norm()))
        inside = x + whole @ cell
        found: list[Tensor] = []
        images: list[Tensor] = []
        for a in range(-reach[0], reach[0] + 1):
            for b in range(-reach[1], reach[1] + 1):
                for c in range(-reach[2], reach[2] + 1):
                    shift = torch.tensor([float(a), float(b), float(c)], dtype=x.dtype, device=x.device)
                    distance = torch.cdist(inside, inside + shift @ cell)
                    near = distance < self.cutoff
                    if a == 0 and b == 0 and c == 0:
                        near.fill_diagonal_(False)
                    pair = torch.nonzero(near).t()
                    found.append(pair)
                    images.append(shift + whole.index_select(0, pair[1]) - whole.index_select(0, pair[0]))
        pairs, shifts = torch.cat(found, dim=1), torch.cat(images)
        order = torch.argsort(pairs[0], stable=True)
        return pairs.index_select(1, order), shifts.index_select(0, order)


class GromacsFile(DeployTarget):
    """A file for ``nnpot-modelfile``."""

    destination = "a file ending in .pt with --to gromacs"

    def takes(self, destination: Path, named: bool) -> bool:
        """Only if it is asked for: the suffix is that of our own files."""
        return named and destination.suffix == ".pt"

    def write(self, model: LoadedModel, destination: Path, options: TargetOptions) -> list[str]:
        """Write the file; the lines for the user are those of the mdp file.

        Raises
        ------
        InputError
            For what `require_scripted_whole` refuses.
        """
        if options.without_wall:
            raise InputError("--without-wall is for RuNNer's format", where=str(destination))
        module = require_scripted_whole(model, "GROMACS")
        numbers = [atomic_numbers[element] for element in model.elements]
        with quiet_torchscript(), atomic_write(destination, "wb") as stream:
            torch.jit.save(torch.jit.script(GromacsModel(module, numbers, model.cutoff).eval()), stream)
        return [
            "in the mdp file (the interface passes no virial: no pressure coupling):",
            *(line.format(name=destination.name) for line in _MDP),
        ]


GROMACS_FILE = GromacsFile()
