"""The fused kernels of ``csrc`` in Python: the evaluation that LAMMPS gets, without torch's autograd."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.install.entry_point import CUDA_LIBRARY, KERNEL_LIBRARY, plugin_path

__all__ = [
    "ISAS",
    "Evaluation",
    "Kernel",
    "NoKernelError",
    "cuda_devices",
    "cuda_library_path",
    "library_path",
]

ISAS = ("portable", "avx2", "avx512")
"""Instruction sets that the kernels are compiled for."""
_API_VERSION = 1
MESSAGE_BYTES = 1000
NOT_COVERED = 1  # status of nnpkit_kernel_new


class NoKernelError(Exception):
    """There is no kernel for this model, or none is compiled; the message says why."""


class _Model(ctypes.Structure):
    """``struct nnpkit_model`` of ``csrc/common/c_api.h``."""

    _fields_ = [
        ("n_members", ctypes.c_int),
        ("metadata", ctypes.POINTER(ctypes.c_char_p)),
        ("n_tensors", ctypes.POINTER(ctypes.c_int)),
        ("names", ctypes.POINTER(ctypes.c_char_p)),
        ("n_dimensions", ctypes.POINTER(ctypes.c_int)),
        ("shapes", ctypes.POINTER(ctypes.c_int64)),
        ("values", ctypes.POINTER(ctypes.c_void_p)),
    ]


@dataclass
class Evaluation:
    """What a kernel makes of a block of atoms; the rows of a committee are the innermost axis."""

    atomic_energy: np.ndarray  # (N,) eV; (N, members) if asked for
    gradient: np.ndarray  # (E, 3) eV/Å, dE/d edge_vec; (E, 3, members) if asked for
    atom_extrapolations: np.ndarray  # (N,) features outside the range of the training data
    function_extrapolations: np.ndarray  # (elements, functions) how often; no columns if there are no ranges
    seconds: np.ndarray  # (3,) descriptor, network, gradient: an estimate from every sixteenth atom


def library_path() -> Path:
    """Where the library is or would be; ``NNPKIT_OPS_LIBRARY`` names another one."""
    return Path(os.environ.get("NNPKIT_OPS_LIBRARY") or Path(plugin_path(), KERNEL_LIBRARY))


def cuda_library_path() -> Path:
    """Where the library of CUDA kernels is or would be; ``NNPKIT_CUDA_LIBRARY`` names another one."""
    return Path(os.environ.get("NNPKIT_CUDA_LIBRARY") or Path(plugin_path(), CUDA_LIBRARY))


def cuda_devices() -> int:
    """How many GPUs the CUDA kernels can use here.

    Raises
    ------
    NoKernelError
        If the library is not compiled, or there is no usable GPU; the message says why.
    """
    library = open_library(cuda_library_path(), "nnpkit build --cuda")
    reason = ctypes.create_string_buffer(MESSAGE_BYTES)
    count = int(library.nnpkit_cuda_devices(reason, ctypes.c_size_t(MESSAGE_BYTES)))
    if count == 0:
        raise NoKernelError(f"no usable GPU: {reason.value.decode(errors='replace')}")
    return count


@cache
def open_library(path: Path, remedy: str = "nnpkit build") -> ctypes.CDLL:
    """The library of kernels at `path`; `NoKernelError` with the `remedy` if there is none that fits."""
    try:
        library = ctypes.CDLL(str(path))
        version = library.nnpkit_api_version()
    except (OSError, AttributeError) as error:
        reason = f"cannot be opened ({error})" if path.is_file() else "is not compiled"
        raise NoKernelError(f"the kernel library {path.name} {reason}: run {remedy}") from None
    if version != _API_VERSION:
        raise NoKernelError(f"the kernel library {path.name} belongs to another nnpkit: run {remedy}")
    pointer, integer, size, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_char_p
    library.nnpkit_kernel_new.argtypes = [
        ctypes.POINTER(_Model), text, text, ctypes.POINTER(integer), text, size,
    ]  # fmt: skip
    library.nnpkit_kernel_new.restype = pointer
    library.nnpkit_kernel_delete.argtypes = [pointer]
    library.nnpkit_kernel_delete.restype = None
    library.nnpkit_kernel_members.argtypes = library.nnpkit_kernel_functions.argtypes = [pointer]
    library.nnpkit_kernel_isa.argtypes = [pointer]
    library.nnpkit_kernel_isa.restype = text
    library.nnpkit_kernel_evaluate.argtypes = [
        pointer, pointer, pointer, pointer, pointer, ctypes.c_int64, integer, pointer, pointer, pointer,
        pointer, pointer, text, size,
    ]  # fmt: skip
    return library


class Kernel:
    """A potential, or the members of a committee, ready for fused evaluation.

    Parameters
    ----------
    members : sequence of (str, mapping)
        Metadata (JSON) and tensors (arrays by their names in `AtomicModel`) of each member.
    precision : {'float64', 'mixed', 'float32'}
        Of the arithmetic; arguments and results are always in double precision.
    isa : str, optional
        One of `ISAS`; by default the best one of this processor, or what ``NNPKIT_ISA`` says. ``"cuda:0"`` and so
        on are GPUs: then the kernel is that of `cuda_library_path`.

    Raises
    ------
    NoKernelError
        If the library is not compiled or does not cover this model.
    ValueError
        If the model contradicts itself, or this processor lacks the instruction set.
    """

    def __init__(
        self,
        members: Sequence[tuple[str, Mapping[str, np.ndarray]]],
        precision: str = "float64",
        isa: str | None = None,
    ) -> None:
        if isa is not None and isa.startswith("cuda"):
            self._library = open_library(cuda_library_path(), "nnpkit build --cuda")
        else:
            self._library = open_library(library_path())
        self._handle = None
        tensors = [(n, np.array(v, np.float64, order="C")) for _, m in members for n, v in m.items()]
        shapes = [extent for _, values in tensors for extent in values.shape]
        model = _Model(
            len(members),
            _array(ctypes.c_char_p, [text.encode() for text, _ in members]),
            _array(ctypes.c_int, [len(m) for _, m in members]),
            _array(ctypes.c_char_p, [name.encode() for name, _ in tensors]),
            _array(ctypes.c_int, [values.ndim for _, values in tensors]),
            _array(ctypes.c_int64, shapes),
            _array(ctypes.c_void_p, [values.ctypes.data for _, values in tensors]),
        )
        status, message = ctypes.c_int(0), ctypes.create_string_buffer(MESSAGE_BYTES)
        self._handle = self._library.nnpkit_kernel_new(
            ctypes.byref(model), precision.encode(), isa.encode() if isa else None, ctypes.byref(status),
            message, MESSAGE_BYTES,
        )  # fmt: skip
        if not self._handle:
            problem = NoKernelError if status.value == NOT_COVERED else ValueError
            raise problem(message.value.decode(errors="replace"))
        self.n_members: int = self._library.nnpkit_kernel_members(self._handle)
        self.n_functions: int = self._library.nnpkit_kernel_functions(self._handle)
        self.isa: str = self._library.nnpkit_kernel_isa(self._handle).decode()

    def __del__(self) -> None:
        """Free the memory of the kernel."""
        if getattr(self, "_handle", None):
            self._library.nnpkit_kernel_delete(self._handle)
            self._handle = None

    def evaluate(
        self,
        edge_vec: np.ndarray,
        neighbor_type: np.ndarray,
        offsets: np.ndarray,
        types: np.ndarray,
        *,
        members: bool = False,
        n_elements: int = 0,
    ) -> Evaluation:
        """Energies and gradients of the atoms with these edges; arguments as of `AtomicModel.forward`.

        Parameters
        ----------
        members : bool
            A row for each member of a committee instead of their mean.
        n_elements : int
            Elements of the model, to count features outside the range of the training data; 0: do not count.

        Raises
        ------
        ValueError
            If the arguments make no sense.
        """
        edge_vec = np.ascontiguousarray(edge_vec, np.float64)
        neighbor_type, offsets, types = (
            np.ascontiguousarray(a, np.int64) for a in (neighbor_type, offsets, types)
        )
        n_atoms, n_edges = len(types), len(neighbor_type)
        if edge_vec.shape != (n_edges, 3) or offsets.shape != (n_atoms + 1,):
            raise ValueError("edge vectors, neighbour types, offsets and types do not fit each other")
        if offsets[0] != 0 or offsets[-1] != n_edges or np.any(np.diff(offsets) < 0):
            raise ValueError("offsets do not divide the edges")
        rows = self.n_members if members else 1
        energy, gradient = np.empty((n_atoms, rows)), np.empty((n_edges, 3, rows))
        per_atom = np.zeros(n_atoms, np.int64)
        per_function = np.zeros((n_elements, self.n_functions), np.int64)
        seconds, message = np.zeros(3), ctypes.create_string_buffer(MESSAGE_BYTES)
        counts = (per_atom, per_function) if n_elements else (None, None)
        failed = self._library.nnpkit_kernel_evaluate(
            self._handle, edge_vec.ctypes.data, neighbor_type.ctypes.data, offsets.ctypes.data,
            types.ctypes.data, n_atoms, int(not members), energy.ctypes.data, gradient.ctypes.data,
            *(a.ctypes.data if a is not None else None for a in counts), seconds.ctypes.data, message,
            MESSAGE_BYTES,
        )  # fmt: skip
        if failed:
            raise ValueError(message.value.decode(errors="replace"))
        shape = (..., slice(None)) if members else (..., 0)
        return Evaluation(energy[shape], gradient[shape], per_atom, per_function, seconds)


def _array(kind: Any, values: Sequence[Any]) -> Any:
    return (kind * max(len(values), 1))(*values)
