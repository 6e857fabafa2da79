"""Products of a symmetric matrix, of which one triangle is stored, with a few vectors, by the compiled kernels."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from nnpkit.kernels.native import MESSAGE_BYTES, NoKernelError, library_path, open_library

__all__ = ["compiled_symmetric_product"]

_FASTER = "avx512"
"""Twice as fast there as the BLAS of SciPy; with shorter vectors they are the same."""


class _Symmetric(ctypes.Structure):
    """``struct nnpkit_symmetric`` of ``csrc/common/c_api.h``."""

    _fields_ = [
        ("matrix", ctypes.c_void_p),
        ("n", ctypes.c_int64),
        ("ld", ctypes.c_int64),
        ("lower", ctypes.c_int),
        ("single_precision", ctypes.c_int),
        ("rows", ctypes.c_void_p),
        ("n_rows", ctypes.c_int64),
        ("by_row", ctypes.c_int64),
        ("factor", ctypes.c_double),
        ("out", ctypes.c_void_p),
    ]


def compiled_symmetric_product(
    matrix: Tensor, lower: bool, rows: Tensor, factor: float, isa: str = ""
) -> Tensor | None:
    """``factor * rows @ matrix`` (M, n) as `nnpkit.optim.blas.symmetric_product` has it; None: use something else.

    Parameters
    ----------
    isa : str
        One of `nnpkit.kernels.native.ISAS`; by default what is faster than BLAS, or nothing.
    """
    wanted = os.environ.get("NNPKIT_ISA") or _FASTER
    if not isa and wanted != _FASTER:
        return None
    library = _library(library_path(), isa or wanted)
    if library is None:
        return None
    result = torch.empty(len(rows), len(matrix), dtype=matrix.dtype)
    task = _Symmetric(
        matrix.data_ptr(), len(matrix), matrix.stride(1), int(lower), int(matrix.dtype == torch.float32),
        rows.data_ptr(), len(rows), max(rows.stride(0), len(matrix)), factor, result.data_ptr(),
    )  # fmt: skip
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    if library.nnpkit_symmetric_product(
        ctypes.byref(task), (isa or wanted).encode(), message, ctypes.c_size_t(MESSAGE_BYTES)
    ):
        raise ValueError(message.value.decode(errors="replace"))
    return result


@lru_cache(maxsize=8)
def _library(path: Path, isa: str) -> ctypes.CDLL | None:
    """The library, if it is compiled and the processor has these instructions."""
    try:
        library = open_library(path)
        function = library.nnpkit_symmetric_product
    except (NoKernelError, AttributeError):
        return None
    nothing, message = _Symmetric(), ctypes.create_string_buffer(MESSAGE_BYTES)
    failed = function(ctypes.byref(nothing), isa.encode(), message, ctypes.c_size_t(MESSAGE_BYTES))
    return None if failed else library
