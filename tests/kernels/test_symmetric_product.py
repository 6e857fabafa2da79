"""Products with one triangle of a symmetric matrix, by the kernels."""

from __future__ import annotations

import pytest
import torch

from nnpkit.kernels.native import ISAS
from nnpkit.kernels.stored_triangle import compiled_symmetric_product
from nnpkit.optim.blas import symmetric_product
from nnpkit.optim.symmetric import allocate


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_stored_triangle_alone_is_read(dtype: torch.dtype, isa: str) -> None:
    generator = torch.Generator().manual_seed(3)
    accuracy = 1e-13 if dtype == torch.float64 else 1e-5
    for n, m in ((1, 1), (63, 9), (64, 37), (131, 41), (70, 5), (129, 16)):
        dense = torch.randn(n, n, generator=generator, dtype=dtype)
        dense = dense + dense.T
        # rows of a longer array, as those of one block of the weights are
        rows = torch.randn(m, n + 3, generator=generator, dtype=dtype)[:, 1 : n + 1]
        arrays, matrices = allocate([n, n], True, dtype, torch.device("cpu"))
        arrays[0].fill_(torch.nan)
        for matrix in matrices:
            matrix.assign(dense)
        for matrix in matrices:
            found = compiled_symmetric_product(matrix.matrix, matrix.lower, rows, 0.3, isa)
            if found is None:
                pytest.skip(f"no kernels for {isa}")
            expected = 0.3 * (rows @ dense)
            torch.testing.assert_close(found, expected, rtol=0.0, atol=accuracy * float(expected.abs().max()))


def test_the_filter_uses_it_where_it_is_faster(monkeypatch) -> None:
    matrix = torch.eye(20, dtype=torch.float64).T.contiguous().T
    rows = torch.arange(200, dtype=torch.float64).view(10, 20)
    asked = []

    def spy(*arguments):
        asked.append(arguments)
        return torch.zeros(0)

    monkeypatch.setattr("nnpkit.optim.blas.compiled_symmetric_product", spy)
    assert len(symmetric_product(matrix, True, rows)) == 0
    assert torch.equal(symmetric_product(matrix, True, rows[:3]), rows[:3])
    assert len(asked) == 1
    monkeypatch.undo()
    monkeypatch.setenv("NNPKIT_ISA", "avx2")
    assert compiled_symmetric_product(matrix, True, rows, 1.0) is None
    assert torch.equal(symmetric_product(matrix, True, rows), rows)
