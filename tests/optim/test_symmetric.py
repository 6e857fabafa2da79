"""Triangles in shared arrays, and the BLAS routines on them, against dense linear algebra."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpkit.optim import blas, symmetric
from nnpkit.optim.symmetric import allocate, stored_numbers

CPU = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}


def random_symmetric(n: int, seed: int) -> torch.Tensor:
    half = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return half + half.T


def fill(matrices, sizes):
    """Give each matrix its own content through the interface alone, by updates of rank n."""
    wanted = []
    for seed, (matrix, n) in enumerate(zip(matrices, sizes, strict=True)):
        values, vectors = torch.linalg.eigh(random_symmetric(n, seed))
        for sign in (1.0, -1.0):
            rows = (vectors * (sign * values).clamp(min=0.0).sqrt()).T.contiguous()
            matrix.rank_update(rows.to(matrix.matrix.dtype), sign, 1.0)
        wanted.append(random_symmetric(n, seed))
    return wanted


@pytest.mark.parametrize("triangles", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sizes", [[1], [6], [6, 6], [7, 5, 3, 2, 1], [4, 9, 4, 5, 1, 1]])
def test_matrices_that_share_arrays_do_not_disturb_each_other(sizes, dtype, triangles, monkeypatch):
    monkeypatch.setattr(symmetric, "_PANEL", 4)
    tolerance = TOLERANCE[dtype] * 10
    arrays, matrices = allocate(sizes, triangles, dtype, CPU)
    wanted = fill(matrices, sizes)
    assert sum(a.numel() for a in arrays) == stored_numbers(sizes, triangles)
    for matrix, dense in zip(matrices, wanted, strict=True):
        n = len(dense)
        assert torch.allclose(matrix.dense().double(), dense, rtol=0, atol=tolerance)
        assert torch.allclose(matrix.diagonal().double(), dense.diagonal(), rtol=0, atol=tolerance)
        for n_rows in (1, 3, 12):
            rows = torch.randn(n_rows, n + 5, dtype=dtype)[
                :, 2 : 2 + n
            ]  # rows of a larger matrix, as a block sees them
            result = matrix.product(rows, 0.5).double()
            assert torch.allclose(result, 0.5 * rows.double() @ dense, rtol=0, atol=10 * tolerance)
        factors = torch.linspace(0.5, 1.5, n, dtype=dtype)
        matrix.scale(factors)
        dense.mul_(factors).mul_(factors[:, None])
        rows = torch.randn(3, n, dtype=dtype)
        matrix.rank_update(rows, -0.5, 2.0)
        dense.mul_(2.0).sub_(0.5 * rows.double().T @ rows.double())
    for matrix, dense in zip(matrices, wanted, strict=True):  # after all have changed
        assert torch.allclose(matrix.dense().double(), dense, rtol=0, atol=10 * tolerance)


def test_whole_matrices_stay_symmetric_to_the_last_bit(monkeypatch):
    monkeypatch.setattr(symmetric, "_PANEL", 16)
    _, (matrix,) = allocate([45], False, torch.float64, CPU)
    for _ in range(20):
        matrix.rank_update(torch.randn(7, 45, dtype=torch.float64), -0.3, 1.1)
    assert torch.equal(matrix.matrix, matrix.matrix.T)


def test_scaling_without_rows():
    for triangles in (True, False):
        _, (matrix,) = allocate([3], triangles, torch.float64, CPU)
        matrix.diagonal().fill_(2.0)
        matrix.rank_update(torch.zeros(0, 3, dtype=torch.float64), -3.0, 3.0)
        assert torch.equal(matrix.dense(), 6.0 * torch.eye(3, dtype=torch.float64))


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_triangles_take_about_half(sizes):
    arrays, matrices = allocate(sizes, True, torch.float64, CPU)
    occupied = torch.cat(arrays)
    for matrix in matrices:  # mark each entry once: nothing is shared
        n = len(matrix.diagonal())
        index = torch.tril_indices(n, n) if matrix.lower else torch.triu_indices(n, n)
        matrix.matrix[index[0], index[1]] += 1.0
    occupied = torch.cat(arrays)
    assert occupied.max() == 1.0
    assert occupied.sum() == sum(n * (n + 1) // 2 for n in sizes)
    assert len(occupied) <= sum(n * (n + 1) for n in sizes)


def test_two_equal_blocks_share_one_square():
    assert stored_numbers([100, 100], True) == 100 * 101
    assert stored_numbers([100, 60, 40], True) == 100 * 101


def test_wrong_memory_is_refused():
    matrix = torch.zeros(3, 3, dtype=torch.float64).T
    good = torch.zeros(2, 3, dtype=torch.float64)
    for rows in (good.float(), good[:, :2], torch.zeros(3, 2, dtype=torch.float64).T):
        with pytest.raises(ValueError, match="do not go with"):
            blas.symmetric_product(matrix, True, rows)
    with pytest.raises(ValueError, match="do not go with"):
        blas.symmetric_rank_update(torch.zeros(4, 4, dtype=torch.float64)[:, :3][:3], True, good, 1.0, 1.0)


def test_blas_follows_torch_if_its_threads_sleep(monkeypatch):
    asked = []
    monkeypatch.setattr(blas, "set_threads", asked.append)
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "4")
    blas.follow_torch()
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT")
    blas.follow_torch()
    assert asked == [torch.get_num_threads(), 1]


def test_number_of_threads_can_be_set():
    assert blas.set_threads(1) in (True, False)


def test_torch_gets_its_threads_back():
    before = torch.get_num_threads()
    with blas.undisturbed():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
