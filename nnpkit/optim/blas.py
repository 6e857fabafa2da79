"""Three BLAS routines for symmetric matrices of which one triangle is stored, on the memory of torch tensors.

torch has no symmetric matrix-vector product, and the wrappers in `scipy.linalg.blas` know no leading dimension.
So the routines are called where SciPy offers them to compiled code (`scipy.linalg.cython_blas`), with the
addresses of the tensors: nothing is copied, and two triangles can share an array. A matrix is a tensor (n, n) of
strides (1, ld) (Fortran order) of which only the named triangle is touched. Vectors are the rows of tensors
(M, n), contiguous in themselves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from nnpkit.kernels.stored_triangle import compiled_symmetric_product

__all__ = ["follow_torch", "set_threads", "symmetric_product", "symmetric_rank_update", "undisturbed"]

_SCALARS = {torch.float64: ("d", ctypes.c_double), torch.float32: ("s", ctypes.c_float)}
_MANY_ROWS = 9  # from so many vectors on, one symm (or the kernel) is faster than a symv each


def symmetric_product(matrix: Tensor, lower: bool, rows: Tensor, factor: float = 1.0) -> Tensor:
    """The rows ``factor * rows @ matrix`` (M, n) of a symmetric `matrix` (n, n) and `rows` (M, n)."""
    n, scalar = len(matrix), _SCALARS[matrix.dtype][1]
    _check(matrix, rows)
    compiled = compiled_symmetric_product(matrix, lower, rows, factor) if len(rows) >= _MANY_ROWS else None
    if compiled is not None:
        return compiled
    result = torch.empty(len(rows), n, dtype=matrix.dtype)
    one, zero, size, ld = _int(1), scalar(0.0), _int(n), _int(matrix.stride(1))
    uplo, alpha = _char(lower), scalar(factor)
    if len(rows) < _MANY_ROWS:
        routine = _routine("symv", matrix.dtype)
        for x, y in zip(rows, result, strict=True):
            # y <- alpha A x
            routine(uplo, size, alpha, matrix.data_ptr(), ld, x.data_ptr(), one, zero, y.data_ptr(), one)
    else:
        # In Fortran's order the rows are columns: Y <- alpha A X
        _routine("symm", matrix.dtype)(
            ctypes.c_char(b"L"), uplo, size, _int(len(rows)), alpha, matrix.data_ptr(), ld,
            rows.data_ptr(), _int(rows.stride(0)), zero, result.data_ptr(), size,
        )  # fmt: skip
    return result


def symmetric_rank_update(matrix: Tensor, lower: bool, rows: Tensor, alpha: float, beta: float) -> None:
    """``matrix <- beta * matrix + alpha * rows^T rows`` in the named triangle of `matrix`, for `rows` (M, n)."""
    scalar = _SCALARS[matrix.dtype][1]
    rows = rows.contiguous()
    _check(matrix, rows)
    _routine("syrk", matrix.dtype)(
        _char(lower), ctypes.c_char(b"N"), _int(len(matrix)), _int(len(rows)), scalar(alpha), rows.data_ptr(),
        _int(max(rows.stride(0), len(matrix))), scalar(beta), matrix.data_ptr(), _int(matrix.stride(1)),
    )  # fmt: skip


def _check(matrix: Tensor, rows: Tensor) -> None:
    """BLAS believes what it is told about memory, so be sure of it."""
    fits = rows.dtype == matrix.dtype and rows.shape[1:] == matrix.shape[1:] and rows.device == matrix.device
    if not (
        fits
        and matrix.device.type == "cpu"
        and matrix.stride(0) == 1
        and (rows.stride(1) == 1 or not len(rows))
    ):
        raise ValueError(
            f"rows {rows.shape} {rows.dtype} do not go with the matrix {matrix.shape} {matrix.dtype}"
        )


def _int(value: int) -> ctypes.c_int:
    return ctypes.c_int(value)


def _char(lower: bool) -> ctypes.c_char:
    return ctypes.c_char(b"L" if lower else b"U")


@cache
def _routine(name: str, dtype: torch.dtype) -> Callable[..., None]:
    """BLAS routine as a function of scalars (by reference, as in Fortran) and addresses."""
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__[_SCALARS[dtype][0] + name]
    signature = ctypes.pythonapi.PyCapsule_GetName
    signature.restype, signature.argtypes = ctypes.c_char_p, [ctypes.py_object]
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    n_arguments = {"symv": 10, "symm": 12, "syrk": 10}[name]
    routine = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(address(capsule, signature(capsule)))

    def call(*arguments: object) -> None:
        routine(*[a if isinstance(a, int) else ctypes.addressof(a) for a in arguments])  # type: ignore[arg-type]

    return call


def set_threads(n_threads: int) -> bool:
    """Let OpenBLAS, where SciPy brings its own, use `n_threads`; whether there was one to tell.

    It has threads of its own beside torch's, which `torch.set_num_threads` does not reach. Any other BLAS keeps
    what its environment variables say.
    """
    found = False
    for library in _loaded_libraries("openblas"):
        for symbol in ("scipy_openblas_set_num_threads", "openblas_set_num_threads"):
            with contextlib.suppress(AttributeError, OSError):
                getattr(ctypes.CDLL(library), symbol)(ctypes.c_int(n_threads))
                found = True
    return found


def follow_torch() -> None:
    """Let OpenBLAS use as many threads as torch does, provided that they sleep when they have nothing to do.

    Threads of OpenBLAS, and those of torch, wait actively for their next piece of work and keep the
    processors from each other. On two cores an update of 8192 weights and a training step of a small network took
    8 + 16 ms with the environment variables OPENBLAS_THREAD_TIMEOUT=4 and GOMP_SPINCOUNT=10000,
    14 + 55 ms without, and 14 + 20 ms without but with one thread for OpenBLAS. They must be set before torch and SciPy
    are imported, so it is only looked here whether the first one is.
    """
    set_threads(torch.get_num_threads() if "OPENBLAS_THREAD_TIMEOUT" in os.environ else 1)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within this context torch has one thread, so that no others of its threads wait actively beside BLAS."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _loaded_libraries(name: str) -> list[str]:
    """Shared libraries of this process whose file name contains `name` (Linux)."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    files = {
        line.split(None, 5)[5] for line in maps.read_text().splitlines() if len(line.split(None, 5)) == 6
    }
    return sorted(file for file in files if name in Path(file).name)
