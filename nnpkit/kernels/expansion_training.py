"""Training of cluster expansions by the compiled kernels: features, energies, forces, and the rows of the Jacobian."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.kernels.acsf_operators import Edges, expect
from nnpkit.kernels.native import MESSAGE_BYTES, NoKernelError, library_path, open_library

__all__ = ["ExpansionKernel", "ExpansionRows", "ExpansionWeights", "NeighborEdges", "expansion_kernel"]


class ExpansionWeights(NamedTuple):
    """What a training changes of a cluster expansion, and its scaling of D features."""

    parameters: Tensor  # (P,) radial and angular coefficients, then the networks element by element
    shift: Tensor  # (T, D)
    factor: Tensor  # (T, D)
    lower: float
    energy_scale: float


class NeighborEdges(NamedTuple):
    """N atoms and their E edges, sorted by centre."""

    edge_vec: Tensor  # (E, 3) Å
    neighbor_type: Tensor  # (E,)
    offsets: Tensor  # (N + 1,)
    types: Tensor  # (N,); to measure, -1 of neighbours that are no centres
    neighbor: Tensor  # (E,)


class ExpansionRows(NamedTuple):
    """What was asked for; rows are those of the energy, of force components, of fields and of the virial."""

    energy: float  # eV, without reference energies
    values: Tensor  # (V,) of force components, fields and virial
    rows: Tensor | None  # (V or V + 1, P)
    forces: Tensor | None  # (N, 3) eV/Å
    virial: Tensor | None  # (3, 3) eV


class _Weights(ctypes.Structure):
    """``struct nnpkit_expansion_weights`` of ``csrc/common/c_api.h``."""

    _fields_ = [
        ("parameters", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
        ("factor", ctypes.c_void_p),
        ("lower", ctypes.c_double),
        ("energy_scale", ctypes.c_double),
    ]


class _Rows(ctypes.Structure):
    """``struct nnpkit_expansion_rows``."""

    _fields_ = [
        ("with_energy", ctypes.c_int),
        ("with_virial", ctypes.c_int),
        ("n_moves", ctypes.c_int64),
        ("n_fields", ctypes.c_int64),
        ("atoms", ctypes.c_void_p),
        ("axes", ctypes.c_void_p),
        ("fields", ctypes.c_void_p),
        ("strains", ctypes.c_void_p),
        ("energy", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("forces", ctypes.c_void_p),
        ("virial", ctypes.c_void_p),
    ]


@lru_cache(maxsize=8)
def _library(path: Path) -> ctypes.CDLL:
    library = open_library(path)
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    try:
        library.nnpkit_expansion_new.argtypes = [text, text, ctypes.POINTER(ctypes.c_int), text, size]
        library.nnpkit_expansion_new.restype = pointer
        library.nnpkit_expansion_delete.argtypes = library.nnpkit_expansion_isa.argtypes = [pointer]
        library.nnpkit_expansion_delete.restype = None
        library.nnpkit_expansion_isa.restype = text
        library.nnpkit_expansion_parameters.argtypes = [pointer]
        library.nnpkit_expansion_parameters.restype = ctypes.c_int64
        library.nnpkit_expansion_set.argtypes = [pointer, ctypes.POINTER(_Weights), text, size]
        library.nnpkit_expansion_features.argtypes = [pointer, ctypes.POINTER(Edges), pointer, text, size]
        library.nnpkit_expansion_measure.argtypes = [
            pointer, ctypes.POINTER(Edges), pointer, ctypes.POINTER(_Rows), text, size,
        ]  # fmt: skip
    except AttributeError:
        raise NoKernelError(
            f"the kernel library {path.name} belongs to another nnpkit: run nnpkit build"
        ) from None
    return library


class ExpansionKernel:
    """A cluster expansion in training, compiled; several threads may use one, one after the other.

    Parameters
    ----------
    spec : str
        JSON, see ``nnpkit_expansion_new`` in ``csrc/common/c_api.h``.
    isa : str
        One of `nnpkit.kernels.native.ISAS`; empty for the best one of this processor, or what ``NNPKIT_ISA`` says.

    Raises
    ------
    NoKernelError
        If the library is not compiled.
    ValueError
        If the description contradicts itself, or this processor lacks the instruction set.
    """

    def __init__(self, spec: str, isa: str = "") -> None:
        self._library, self._handle, self._lock = _library(library_path()), None, threading.Lock()
        status, message = ctypes.c_int(0), ctypes.create_string_buffer(MESSAGE_BYTES)
        self._handle = self._library.nnpkit_expansion_new(
            spec.encode(), isa.encode(), ctypes.byref(status), message, MESSAGE_BYTES
        )
        if not self._handle:
            raise ValueError(message.value.decode(errors="replace"))
        self.n_parameters: int = self._library.nnpkit_expansion_parameters(self._handle)
        self.isa: str = self._library.nnpkit_expansion_isa(self._handle).decode()

    def __del__(self) -> None:
        """Free the memory of the kernel."""
        if getattr(self, "_handle", None):
            self._library.nnpkit_expansion_delete(self._handle)
            self._handle = None

    def features(self, weights: ExpansionWeights, edges: NeighborEdges) -> Tensor:
        """Raw features (N, D)."""
        out = torch.empty((len(edges.types), weights.shift.shape[1]), dtype=torch.float64)
        view, kept = _edges(edges)
        with self._lock:
            self._set(weights)
            self._call("features", ctypes.byref(view), out.data_ptr())
        del kept
        return out

    def measure(
        self,
        weights: ExpansionWeights,
        edges: NeighborEdges,
        *,
        energy: bool = False,
        moves: tuple[Tensor, Tensor] | None = None,
        fields: Tensor | None = None,
        strains: Sequence[tuple[int, int]] = (),
        rows: bool = True,
        forces: bool = False,
    ) -> ExpansionRows:
        """The energy and its derivatives, with rows (derivatives by all parameters) if asked for.

        Parameters
        ----------
        energy : bool
            A row of the energy.
        moves : tuple of Tensor
            Atoms (M,) and axes (M,): values are the forces on them.
        fields : Tensor
            (F, N, 3): values are sums of all forces times these.
        strains : sequence
            Six components of the virial, which are values too.
        forces : bool
            All forces and the whole virial, without rows of their own.
        """
        n_atoms = len(edges.types)
        atoms, axes = (part.contiguous() for part in moves or [torch.zeros(0, dtype=torch.int64)] * 2)
        given = torch.zeros((0, n_atoms, 3), dtype=torch.float64) if fields is None else fields.contiguous()
        expect("fields", given, (len(given), n_atoms, 3))
        expect("atoms", atoms, (len(atoms),), torch.int64)
        expect("axes", axes, (len(atoms),), torch.int64)
        expect("neighbor", edges.neighbor, (len(edges.edge_vec),), torch.int64)
        if len(strains) not in (0, 6):
            raise ValueError("all six components of the virial, or none")
        total = torch.zeros(1, dtype=torch.float64)
        values = total.new_zeros(len(atoms) + len(given) + len(strains))
        found = total.new_zeros((len(values) + energy, self.n_parameters)) if rows else None
        by_atom, virial = (total.new_empty(n_atoms, 3), total.new_empty(3, 3)) if forces else (None, None)
        components = (ctypes.c_int * 12)(*(axis for pair in strains for axis in pair))
        wanted = _Rows(
            int(energy), int(len(strains) > 0), len(atoms), len(given), atoms.data_ptr(), axes.data_ptr(),
            given.data_ptr(), ctypes.addressof(components), total.data_ptr(), values.data_ptr(),
            *(None if part is None else part.data_ptr() for part in (found, by_atom, virial)),
        )  # fmt: skip
        view, kept = _edges(edges)
        neighbor = edges.neighbor.contiguous()
        with self._lock:
            self._set(weights)
            self._call("measure", ctypes.byref(view), neighbor.data_ptr(), ctypes.byref(wanted))
        del kept
        return ExpansionRows(float(total), values, found, by_atom, virial)

    def _set(self, weights: ExpansionWeights) -> None:
        expect("parameters", weights.parameters, (self.n_parameters,))
        arrays = [part.contiguous() for part in weights[:3]]
        view = _Weights(*(part.data_ptr() for part in arrays), weights.lower, weights.energy_scale)
        self._call("set", ctypes.byref(view))

    def _call(self, name: str, *arguments: object) -> None:
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        function = getattr(self._library, f"nnpkit_expansion_{name}")
        if function(self._handle, *arguments, message, MESSAGE_BYTES):
            raise ValueError(message.value.decode(errors="replace"))


def _edges(edges: NeighborEdges) -> tuple[Edges, list[Tensor]]:
    """View of the edges, and the arrays that it looks at."""
    arrays = [part.contiguous() for part in edges[:4]]
    n_atoms, n_edges = len(edges.types), len(edges.edge_vec)
    expect("edge_vec", arrays[0], (n_edges, 3))
    for name, array, size in zip(
        ("neighbor_type", "offsets", "types"), arrays[1:], (n_edges, n_atoms + 1, n_atoms), strict=True
    ):
        expect(name, array, (size,), torch.int64)
    return Edges(*(part.data_ptr() for part in arrays), n_atoms, n_edges), arrays


def expansion_kernel(spec: str, isa: str = "") -> ExpansionKernel:
    """The kernel of this description, made once; see `ExpansionKernel`."""
    return _kernel(library_path(), os.environ.get("NNPKIT_ISA"), spec, isa)


@lru_cache(maxsize=8)
def _kernel(library: Path, wanted: str | None, spec: str, isa: str) -> ExpansionKernel:
    """The environment decides, too: it is part of the key."""
    return ExpansionKernel(spec, isa)
