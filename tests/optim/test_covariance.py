"""The lazy covariance against a textbook one that is rewritten at every step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpkit.errors import InputError
from nnpkit.optim.covariance import Covariance
from nnpkit.optim.covariance_memory import (
    available_memory,
    covariance_bytes,
    fitting_block_size,
    require_memory,
)
from nnpkit.optim.partition import Layer, make_partition

SIZES = (5, 7, 4)
PARTITION = make_partition("layer", [Layer(str(i), n) for i, n in enumerate(SIZES)])
N = sum(SIZES)
INSIDE = torch.block_diag(*[torch.ones(n, n, dtype=torch.float64) for n in SIZES])


def rows(m: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(m, N, generator=generator, dtype=torch.float64)


def apply(covariance: Covariance, dense: torch.Tensor, change: tuple) -> torch.Tensor:
    """The same change to both; the dense one is block-diagonal by the mask alone."""
    name, value = change
    getattr(covariance, name)(*() if value is None else value if isinstance(value, tuple) else (value,))
    if name == "subtract":
        return dense - INSIDE * (value.T @ value)
    if name == "multiply":
        return dense * value
    if name == "inflate":
        root = (value[1] / dense.diagonal()).clamp(1.0, value[0]).sqrt()
        return root[:, None] * dense * root
    return dense + value * torch.eye(N, dtype=torch.float64) if name == "add_to_diagonal" else dense


@pytest.mark.parametrize("triangles", [True, False])
@pytest.mark.parametrize("lazy_rank", [1, 4, 100])
@given(changes=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.floats(0.5, 4.0)), max_size=30))
@settings(max_examples=20, deadline=None)
def test_every_sequence_of_changes_is_exact(triangles, lazy_rank, changes):
    generator = torch.Generator().manual_seed(len(changes))
    covariance = Covariance(PARTITION, 1e4, lazy_rank=lazy_rank, triangles=triangles)
    dense = 1e4 * torch.eye(N, dtype=torch.float64)
    for kind, m, number in changes:
        y = rows(m, generator)
        y[:, : SIZES[0]] *= m % 2  # sometimes the first block sees nothing
        options = (
            ("subtract", y),
            ("multiply", number),
            ("add_to_diagonal", number),
            ("fold", None),
            ("multiply", 1e3),
            ("inflate", (1.0 + number, 1e4)),
            ("inflate", (1e12, 2e16)),
        )
        dense = apply(covariance, dense, options[kind])
    h = rows(3, generator)
    scale = float(dense.abs().max())
    assert torch.allclose(covariance.dense(), dense, rtol=1e-12, atol=1e-13 * scale)
    assert torch.allclose(covariance.diagonal(), dense.diagonal(), rtol=1e-12, atol=1e-13 * scale)
    assert torch.allclose(covariance.product(h), h @ dense, rtol=1e-12, atol=1e-12 * scale)


def continue_from(state, **options) -> Covariance:
    copy = Covariance(PARTITION, 5.0, **options)
    copy.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    return copy


@pytest.mark.parametrize("triangles", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_state_round_trip_is_bit_identical_with_rows_pending(dtype, triangles):
    generator = torch.Generator().manual_seed(0)
    options = {"dtype": dtype, "lazy_rank": 8, "triangles": triangles}
    whole = Covariance(PARTITION, 100.0, **options)
    for step in range(40):
        if step == 21:
            state = whole.state_dict()
            assert 0 < len(state["block-00000/pending"]) < 8
            copy = continue_from(state, **options)
        for covariance in (whole, copy) if step >= 21 else (whole,):
            generator.manual_seed(step)
            h = rows(1 + step % 3, generator)
            y = covariance.product(h) * 0.01
            covariance.subtract(y)
            covariance.multiply(1.01)
    for (name, a), b in zip(whole.state_dict().items(), copy.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    other = continue_from(whole.state_dict(), **{**options, "triangles": not triangles})
    assert torch.equal(other.dense(), whole.dense()), "a triangle says nothing of where it was"


def test_other_lazy_rank_goes_on_with_the_same_covariance():
    covariance = Covariance(PARTITION, 100.0, lazy_rank=8)
    covariance.subtract(rows(6, torch.Generator().manual_seed(0)))
    for lazy_rank in (4, 16):
        copy = continue_from(covariance.state_dict(), lazy_rank=lazy_rank)
        assert torch.allclose(copy.dense(), covariance.dense(), rtol=1e-14, atol=1e-14)


def test_single_precision_can_be_resumed_in_double_and_not_the_other_way():
    single = Covariance(PARTITION, 10.0, dtype="float32")
    single.subtract(rows(3, torch.Generator().manual_seed(0)))
    assert torch.allclose(continue_from(single.state_dict()).dense(), single.dense(), rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match=r"stored in another way; expected float32\. .*not lowered"):
        continue_from(Covariance(PARTITION).state_dict(), dtype="float32")


def test_another_partition_is_refused():
    for kind, words in (
        ("global", "16 weights in one block"),
        ("split", "16 weights in blocks of 4, 4, 4, 4"),
    ):
        other = Covariance(make_partition(kind, PARTITION.layers, 5))
        with pytest.raises(InputError, match=f"{words}; expected 16 weights in blocks of 5, 7, 4"):
            continue_from(other.state_dict())
    with pytest.raises(InputError, match="no covariance that this version can read"):
        continue_from({})


def test_what_is_inflated_up_to_a_limit_stays_positive_definite_however_long_it_forgets():
    generator = torch.Generator().manual_seed(6)
    covariance = Covariance(PARTITION, 1.0, lazy_rank=8)
    seen = rows(2, generator)
    for step in range(3000):
        h = seen[step % 2 : step % 2 + 1]
        product = covariance.product(h)
        covariance.subtract(product / (product @ h.T + 1e-4).sqrt())
        covariance.inflate(1.0 / 0.98, 1.0)
    values = torch.linalg.eigvalsh(covariance.dense())
    assert float(covariance.diagonal().max()) <= 1.0 + 1e-12
    assert float(values.min()) > 1e-9
    copy = continue_from(covariance.state_dict())
    assert torch.equal(copy.dense(), covariance.dense())
    copy.restart()
    assert torch.equal(copy.dense(), 5.0 * torch.eye(N, dtype=torch.float64))


def test_lost_positive_definiteness_names_the_block_and_the_setting():
    covariance = Covariance(PARTITION, 1.0, lazy_rank=2)
    y = torch.zeros(2, N, dtype=torch.float64)
    y[:, 6] = 1.0
    with pytest.raises(
        InputError, match=r"covariance of 1 is not positive definite.*Lower initial_covariance"
    ):
        covariance.subtract(y)


def test_memory_is_what_is_said():
    for kind in ("global", "layer", "split", "reorganized"):
        partition = make_partition(kind, [Layer("a", 300), Layer("b", 60), Layer("c", 20)], 100)
        for dtype in ("float64", "float32"):
            for triangles in (True, False):
                covariance = Covariance(partition, dtype=dtype, lazy_rank=3, triangles=triangles)
                assert covariance.n_bytes == covariance_bytes(partition, dtype, 3, triangles=triangles)


def test_water_network_with_blocks_of_10240_takes_less_than_3_gb():
    embedding = [Layer(f"embedding.{t}.{i}", n) for t in range(2) for i, n in enumerate((50, 650, 650))]
    fitting = [Layer(f"fitting.{t}.{i}", n) for t in range(2) for i, n in enumerate((20050, 2550, 2550, 51))]
    partition = make_partition("reorganized", embedding + fitting, 10240)
    assert covariance_bytes(partition) < 2.2e9
    assert covariance_bytes(partition, triangles=False) > 3e9


def test_too_large_is_refused_before_allocation_with_a_block_size_that_fits():
    layers = [Layer(str(i), 10**6) for i in range(2)]
    partition = make_partition("layer", layers)  # 16 TB: nothing of it may be allocated
    with pytest.raises(
        InputError,
        match=r"2000000 weights.*8\d{3}\.\d\d GB in float64, 16\.00 GB are free.*block_size: \d+ w",
    ):
        require_memory(partition, 16 * 10**9)
    size = fitting_block_size(partition, 16 * 10**9)
    assert covariance_bytes(make_partition("reorganized", layers, size)) <= 16e9
    assert covariance_bytes(make_partition("reorganized", layers, size * 5 // 4)) > 16e9
    with pytest.raises(InputError, match="Use a smaller network, or the optimizer adam"):
        require_memory(partition, 1000)
    small = make_partition("global", [Layer("a", 1000)])
    with pytest.raises(InputError, match="float32"):
        require_memory(small, 5 * 10**6)
    assert require_memory(small, 10**7) == covariance_bytes(small)
    assert available_memory() > 0


def test_blocks_of_one_process():
    whole = Covariance(PARTITION, 3.0)
    parts = [Covariance(PARTITION, 3.0, owned=owned) for owned in ([1], [0, 2], [])]
    y = rows(4, torch.Generator().manual_seed(0))
    for covariance in (whole, *parts):
        covariance.subtract(0.1 * y)
    assert torch.equal(sum(part.product(y) for part in parts), whole.product(y))
    assert torch.equal(sum(part.diagonal() for part in parts), whole.diagonal())
    assert np.isclose(sum(part.n_bytes for part in parts), whole.n_bytes, rtol=0.5)


def test_a_weight_that_learns_again_begins_with_the_first_variance() -> None:
    covariance = Covariance(make_partition("global", [Layer("all", 4)]), 2.0)
    covariance.multiply(3.0)
    covariance.freeze(torch.tensor([True, False, True, True]))
    assert covariance.diagonal().tolist() == pytest.approx([6.0, 0.0, 6.0, 6.0])
    covariance.freeze(None)
    assert covariance.diagonal().tolist() == pytest.approx([6.0, 2.0, 6.0, 6.0])
