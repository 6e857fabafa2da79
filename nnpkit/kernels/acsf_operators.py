"""Symmetry functions of the compiled kernels as operators of torch, with their derivatives.

``torch.ops.nnpkit.symmetry_functions`` and its products with the Jacobian from both sides (``_vjp``, ``_jvp``), which
are each other's derivative: gradients by the edge vectors, and derivatives of such a gradient by what it came from.
Second derivatives by the edge vectors are nobody's; asking for them is an error.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnpkit.kernels.native import MESSAGE_BYTES, NOT_COVERED, NoKernelError, library_path, open_library

__all__ = [
    "DescriptorKernel",
    "Edges",
    "FeatureChanges",
    "descriptor_kernel",
    "expect",
    "symmetry_functions",
    "symmetry_functions_vjp",
]


class Edges(ctypes.Structure):
    """``struct nnpkit_edges`` of ``csrc/common/c_api.h``."""

    _fields_ = [
        ("edge_vec", ctypes.c_void_p),
        ("neighbor_type", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("types", ctypes.c_void_p),
        ("n_atoms", ctypes.c_int64),
        ("n_edges", ctypes.c_int64),
    ]


class _Directions(ctypes.Structure):
    """``struct nnpkit_directions`` of ``csrc/common/c_api.h``."""

    _fields_ = [
        ("neighbor", ctypes.c_void_p),
        ("components", ctypes.c_void_p),
        ("n_components", ctypes.c_int64),
        ("factor", ctypes.c_void_p),
        ("features", ctypes.c_void_p),
        ("virial", ctypes.c_void_p),
        ("room", ctypes.c_int64),
        ("n_samples", ctypes.c_int64),
        ("atom", ctypes.c_void_p),
        ("row", ctypes.c_void_p),
        ("change", ctypes.c_void_p),
    ]


@lru_cache(maxsize=8)
def _library(path: Path) -> ctypes.CDLL:
    library = open_library(path)
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    try:
        library.nnpkit_descriptor_new.argtypes = [text, text, ctypes.POINTER(ctypes.c_int), text, size]
        library.nnpkit_descriptor_new.restype = pointer
        library.nnpkit_descriptor_delete.argtypes = library.nnpkit_descriptor_width.argtypes = [pointer]
        library.nnpkit_descriptor_delete.restype = None
        library.nnpkit_descriptor_isa.argtypes = [pointer]
        library.nnpkit_descriptor_isa.restype = text
        for name, n_arrays in (("features", 1), ("jacobian", 1), ("vjp", 2), ("jvp", 2)):
            function = getattr(library, f"nnpkit_descriptor_{name}")
            function.argtypes = [pointer, ctypes.POINTER(Edges), *[pointer] * n_arrays, text, size]
        library.nnpkit_descriptor_directions.argtypes = [
            pointer, ctypes.POINTER(Edges), ctypes.POINTER(_Directions), text, size
        ]  # fmt: skip
    except AttributeError:
        raise NoKernelError(
            f"the kernel library {path.name} belongs to another nnpkit: run nnpkit build"
        ) from None
    return library


class FeatureChanges(NamedTuple):
    """Features of N atoms, and samples of their changes along directions in which atoms move."""

    features: Tensor  # (N, D), padded with zeros
    atom: Tensor  # (S,) whose features change
    row: Tensor  # (S,) ascending: which of the components that is
    change: Tensor  # (S, D)
    virial: Tensor | None  # (6, N, D) of xx yy zz yz xz xy


class DescriptorKernel:
    """Symmetry functions without networks, compiled; several threads may use one, one after the other.

    Parameters
    ----------
    spec : str
        JSON: ``elements``, ``cutoff_kind``, ``cutoff_inner``, ``functions``, as in the description of a model.
    isa : str
        One of `nnpkit.kernels.native.ISAS`; empty for the best one of this processor, or what ``NNPKIT_ISA`` says.

    Raises
    ------
    NoKernelError
        If the library is not compiled or does not cover these functions.
    ValueError
        If the description contradicts itself, or this processor lacks the instruction set.
    """

    def __init__(self, spec: str, isa: str = "") -> None:
        self._library, self._handle, self._lock = _library(library_path()), None, threading.Lock()
        status, message = ctypes.c_int(0), ctypes.create_string_buffer(MESSAGE_BYTES)
        self._handle = self._library.nnpkit_descriptor_new(
            spec.encode(), isa.encode(), ctypes.byref(status), message, MESSAGE_BYTES
        )
        if not self._handle:
            problem = NoKernelError if status.value == NOT_COVERED else ValueError
            raise problem(message.value.decode(errors="replace"))
        self.width: int = self._library.nnpkit_descriptor_width(self._handle)
        self.isa: str = self._library.nnpkit_descriptor_isa(self._handle).decode()

    def __del__(self) -> None:
        """Free the memory of the kernel."""
        if getattr(self, "_handle", None):
            self._library.nnpkit_descriptor_delete(self._handle)
            self._handle = None

    def features(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Features (N, D), shorter sets padded with zeros; arguments as of `Descriptor`."""
        out = edge_vec.new_empty(len(types), self.width)
        self._call("features", (edge_vec, neighbor_type, offsets, types), out)
        return out

    def jacobian(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Derivatives (E, D, 3) of the features of every edge's centre by the edge vector."""
        out = edge_vec.new_empty(len(edge_vec), self.width, 3)
        self._call("jacobian", (edge_vec, neighbor_type, offsets, types), out)
        return out

    def vjp(
        self, cotangent: Tensor, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> Tensor:
        """Derivative (E, 3) by the edge vectors of the features times `cotangent` (N, D)."""
        expect("cotangent", cotangent, (len(types), self.width))
        out = torch.empty_like(edge_vec, memory_format=torch.contiguous_format)
        self._call("vjp", (edge_vec, neighbor_type, offsets, types), cotangent.contiguous(), out)
        return out

    def jvp(
        self, tangent: Tensor, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> Tensor:
        """Change (N, D) of the features along `tangent` (E, 3)."""
        expect("tangent", tangent, (len(edge_vec), 3))
        out = edge_vec.new_empty(len(types), self.width)
        self._call("jvp", (edge_vec, neighbor_type, offsets, types), tangent.contiguous(), out)
        return out

    def changes(
        self,
        edge_vec: Tensor,
        neighbor: Tensor,
        offsets: Tensor,
        types: Tensor,
        components: Tensor,
        with_virial: bool,
        factor: Tensor,
    ) -> FeatureChanges:
        """Features, and their changes that force components and the virial are made of, in one pass.

        Parameters
        ----------
        neighbor : Tensor
            (E,) the atom at the end of each edge.
        components : Tensor
            (M,) force components, 3 times the atom plus the axis.
        factor : Tensor
            (elements, D) multiplies the changes of the features of atoms of each element.
        """
        n_atoms, n_rows = len(types), len(components)
        expect("neighbor", neighbor, (len(edge_vec),), torch.int64)
        expect("components", components, (n_rows,), torch.int64)
        components, factor = components.contiguous(), factor.contiguous()
        if n_rows and (int(components.min()) < 0 or int(components.max()) >= 3 * n_atoms):
            raise ValueError("a component of no atom")
        into = torch.bincount(neighbor, minlength=n_atoms)
        room = n_rows + int(into[components // 3].sum())
        features = edge_vec.new_empty(n_atoms, self.width)
        virial = edge_vec.new_empty(6, n_atoms, self.width) if with_virial else None
        atom, row = components.new_empty(room), components.new_empty(room)
        change = edge_vec.new_empty(room, self.width)
        wanted = _Directions(
            neighbor.data_ptr(), components.data_ptr(), n_rows, factor.data_ptr(), features.data_ptr(),
            None if virial is None else virial.data_ptr(), room, 0, atom.data_ptr(), row.data_ptr(), change.data_ptr(),
        )  # fmt: skip
        self._call("directions", (edge_vec, types[neighbor], offsets, types), ctypes.byref(wanted))
        n = wanted.n_samples
        return FeatureChanges(features, atom[:n], row[:n], change[:n], virial)

    def _call(self, name: str, edges: tuple[Tensor, Tensor, Tensor, Tensor], *arrays: Any) -> None:
        edge_vec, neighbor_type, offsets, types = (part.contiguous() for part in edges)
        n_atoms, n_edges = len(types), len(edge_vec)
        expect("edge_vec", edge_vec, (n_edges, 3))
        expect("neighbor_type", neighbor_type, (n_edges,), torch.int64)
        expect("offsets", offsets, (n_atoms + 1,), torch.int64)
        expect("types", types, (n_atoms,), torch.int64)
        view = Edges(
            *(part.data_ptr() for part in (edge_vec, neighbor_type, offsets, types)), n_atoms, n_edges
        )
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        pointers = [array.data_ptr() if isinstance(array, Tensor) else array for array in arrays]
        with self._lock:
            failed = getattr(self._library, f"nnpkit_descriptor_{name}")(
                self._handle, ctypes.byref(view), *pointers, message, MESSAGE_BYTES
            )  # fmt: skip
        if failed:
            raise ValueError(message.value.decode(errors="replace"))


def expect(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
    if value.shape != shape or value.dtype != dtype or value.device.type != "cpu":
        raise ValueError(
            f"{name} of shape {tuple(value.shape)}, {value.dtype}, {value.device}: expected {shape}, {dtype}, cpu"
        )


def descriptor_kernel(spec: str, isa: str = "") -> DescriptorKernel:
    """The kernel of this description, made once; see `DescriptorKernel`."""
    return _kernel(library_path(), os.environ.get("NNPKIT_ISA"), spec, isa)


@lru_cache(maxsize=32)
def _kernel(library: Path, wanted: str | None, spec: str, isa: str) -> DescriptorKernel:
    """The environment decides, too: it is part of the key."""
    return DescriptorKernel(spec, isa)


@lru_cache(maxsize=32)
def _width(spec: str) -> int:
    """Features of the element that has most."""
    description = json.loads(spec)
    centers = [function["center"] for function in description["functions"]]
    return max(centers.count(element) for element in description["elements"])


def symmetry_functions(
    edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor, spec: str, isa: str
) -> Tensor:
    """Features (N, D) of atoms with these edges, differentiable with respect to the edge vectors.

    The first four arguments are as of `nnpkit.models.descriptor.Descriptor`, then those of `DescriptorKernel`.
    """
    return torch.ops.nnpkit.symmetry_functions(edge_vec, neighbor_type, offsets, types, spec, isa)


def symmetry_functions_vjp(
    cotangent: Tensor, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor, spec: str, isa: str
) -> Tensor:  # fmt: skip
    """Derivative (E, 3) by the edge vectors of the features times `cotangent` (N, D), differentiable by `cotangent`.

    Raises
    ------
    NotImplementedError
        In a backward pass that needs its derivatives by the edge vectors.
    """
    edges = (_Once.apply(edge_vec), neighbor_type, offsets, types)
    return torch.ops.nnpkit.symmetry_functions_vjp(cotangent, *edges, spec, isa)


class _Once(torch.autograd.Function):
    """What may not be differentiated again: an identity whose gradient is an error.

    An operator cannot tell whether its gradient by the edge vectors is going to be used; a function of its own on the
    way to them is run only if it is.
    """

    @staticmethod
    def forward(ctx: Any, edge_vec: Tensor) -> Tensor:
        return edge_vec.view_as(edge_vec)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise NotImplementedError(
            "the kernels of symmetry functions have no second derivatives by the edge vectors: use the PyTorch "
            "descriptor, or name the weights alone as inputs of the backward pass"
        )


def _features_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    edge_vec, neighbor_type, offsets, types = ctx.saved_tensors
    by_edges = symmetry_functions_vjp(gradient, edge_vec, neighbor_type, offsets, types, ctx.spec, ctx.isa)
    return by_edges, None, None, None, None, None


def _vjp_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return _product_backward(ctx, torch.ops.nnpkit.symmetry_functions_jvp, gradient)


def _jvp_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return _product_backward(ctx, torch.ops.nnpkit.symmetry_functions_vjp, gradient)


def _product_backward(ctx: Any, adjoint: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of a product with the Jacobian; those by the edge vectors are not known and must not look like it."""
    edge_vec, *others = ctx.saved_tensors
    by_vector = adjoint(gradient, _Once.apply(edge_vec), *others, ctx.spec, ctx.isa)
    unknown = torch.full_like(edge_vec, torch.nan) if ctx.needs_input_grad[1] else None
    return by_vector, unknown, None, None, None, None, None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.spec, ctx.isa = inputs
    ctx.save_for_backward(*tensors[-4:])


def _define() -> torch.library.Library:
    """The operators; by hand, since the decorator of torch.library imports torch.compile at the first call."""
    edges = "Tensor edge_vec, Tensor neighbor_type, Tensor offsets, Tensor types, str spec, str isa"
    library = torch.library.Library("nnpkit", "DEF")

    def define(name: str, vector: str, compute: Any, shape: Any, backward: Any) -> None:
        library.define(f"{name}({vector}{edges}) -> Tensor", tags=torch.Tag.pt2_compliant_tag)
        library.impl(name, lambda *a: compute(descriptor_kernel(*a[-2:]), *a[:-2]), "CPU")
        torch.library.register_fake(
            f"nnpkit::{name}", lambda *a: a[-6].new_empty(shape(*a[-6:])), lib=library
        )
        torch.library.register_autograd(f"nnpkit::{name}", backward, setup_context=_keep, lib=library)

    def per_edge(edge_vec: Tensor, *others: Any) -> tuple[int, int]:
        return edge_vec.shape[0], 3

    def per_atom(*arguments: Any) -> tuple[int, int]:
        *_, types, spec, _ = arguments
        return types.shape[0], _width(spec)

    name = "symmetry_functions"
    define(name, "", DescriptorKernel.features, per_atom, _features_backward)
    define(f"{name}_vjp", "Tensor cotangent, ", DescriptorKernel.vjp, per_edge, _vjp_backward)
    define(f"{name}_jvp", "Tensor tangent, ", DescriptorKernel.jvp, per_atom, _jvp_backward)
    return library


_OPERATORS = _define()  # they live as long as this does
