"""Blocks of weights: the partitions on layers whose blocks can be told by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpkit.errors import InputError
from nnpkit.optim.partition import KINDS, Layer, layers_of, make_partition

LAYERS = [Layer("a", 30), Layer("b", 40), Layer("c", 230), Layer("d", 60), Layer("e", 30), Layer("f", 100)]


def sizes(kind: str, block_size: int, layers=LAYERS) -> list[int]:
    return make_partition(kind, layers, block_size).sizes


def test_the_partitions():
    assert sizes("global", 100) == [490]
    assert sizes("layer", 100) == [30, 40, 230, 60, 30, 100]
    assert sizes("split", 100) == [98, 98, 98, 98, 98]  # five blocks suffice for 490, wherever layers end
    assert sizes("split", 60) == [54, 54, 55, 54, 55, 54, 55, 54, 55]
    # a and b are gathered; c is cut, its remainder stays alone; d and e are gathered
    assert sizes("packed", 100) == [70, 100, 100, 30, 90, 100]
    # a and b are gathered, c is cut, what remains of it (30) is gathered with d, e does not fit, f fits alone
    assert sizes("reorganized", 100) == [70, 100, 100, 90, 30, 100]


def test_the_network_of_the_paper():
    """Hu et al., Fig. 1 d: the first layer of the fitting net, 20000 weights, is cut into 10240 and 9760."""
    embedding = [Layer(f"embedding.{i}", n) for i, n in enumerate((50, 650, 650))]
    fitting = [
        Layer("fitting.0", 20000),
        Layer("fitting.1", 2550),
        Layer("fitting.2", 2550),
        Layer("fitting.3", 51),
    ]
    partition = make_partition("reorganized", embedding + fitting, 10240)
    assert partition.sizes == [1350, 10240, 9760, 5151]
    assert [block.name for block in partition.blocks] == [
        "embedding.0 + embedding.1 + embedding.2",
        "fitting.0[0:10240]",
        "fitting.0[10240:20000]",
        "fitting.1 + fitting.2 + fitting.3",
    ]


def test_even_blocks_are_named_by_their_weights():
    assert [b.name for b in make_partition("split", LAYERS, 250).blocks] == [
        "weights[0:245]",
        "weights[245:490]",
    ]


def packed_as_programmed(parts: list[int], limit: int) -> list[int]:
    """Parameters are added up until the next one would exceed the limit; sums that are larger are cut."""
    sums, running = [], 0
    for part in parts:
        if running + part > limit:
            if running > 0:
                sums.append(running)
            running = part
        else:
            running += part
    sums.append(running)
    blocks = []
    for n in sums:
        while n > limit:
            blocks.append(limit)
            n -= limit
        blocks.append(n)
    return blocks


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 40))
def test_packed_and_split_by_their_rules(parts, limit):
    layers = [Layer(str(i), n) for i, n in enumerate(parts)]
    assert sizes("packed", limit, layers) == packed_as_programmed(parts, limit)
    even = sizes("split", limit, layers)
    assert len(even) == math.ceil(sum(parts) / limit)
    assert max(even) - min(even) <= 1


def test_the_network_of_the_program():
    """[25, 25, 25] and [50, 50, 50, 1] of Hu et al. with N_b = 5120, weight matrices and biases one after the other."""
    parts = [25, 25, 625, 25, 625, 25, 20000, 50, 2500, 50, 2500, 50, 50, 1]
    layers = [Layer(str(i), n) for i, n in enumerate(parts)]
    assert sizes("packed", 5120, layers) == [1350, 5120, 5120, 5120, 4640, 5100, 101]
    # SEKF: 26551 weights in six blocks
    assert sizes("split", 5120, layers) == [4425, 4425, 4425, 4425, 4425, 4426]


def reorganized_as_written(parts: list[int], limit: int) -> list[int]:
    """The two steps of Hu et al., "The Splitting Strategy of RLEKF", word by word."""
    parts, blocks, s = list(parts), [], 0
    while s < len(parts):
        blocks += [limit] * (parts[s] // limit)
        parts[s] -= limit * (parts[s] // limit)
        z = s
        while z + 1 < len(parts) and sum(parts[s : z + 2]) <= limit:
            z += 1
        blocks += [sum(parts[s : z + 1])] if sum(parts[s : z + 1]) else []
        s = z + 1
    return blocks


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 40))
def test_reorganized_is_the_published_procedure(parts, limit):
    layers = [Layer(str(i), n) for i, n in enumerate(parts)]
    assert sizes("reorganized", limit, layers) == reorganized_as_written(parts, limit)


@settings(deadline=None)
@given(
    st.sampled_from(KINDS), st.lists(st.integers(0, 60), min_size=1, max_size=12).filter(any), st.integers(0, 99)
)  # fmt: skip
def test_blocks_cover_the_vector_in_its_order(kind, parts, limit):
    partition = make_partition(kind, [Layer(str(i), n) for i, n in enumerate(parts)], limit)
    stops = [block.stop for block in partition.blocks]
    assert [block.start for block in partition.blocks] == [0, *stops[:-1]]
    assert partition.n_parameters == stops[-1] == sum(parts)
    assert all(size > 0 for size in partition.sizes)
    if kind in ("split", "reorganized", "packed") and limit:
        assert max(partition.sizes) <= limit


@pytest.mark.parametrize("block_size", [0, 490, 10**9])
def test_no_limit_works_and_says_what_it_did(block_size):
    reason = "is no limit" if block_size == 0 else "is not less than the number of weights"
    for kind in ("split", "reorganized", "packed"):
        assert sizes(kind, block_size) == [490]
        note = make_partition(kind, LAYERS, block_size).note
        assert reason in note
        assert note.endswith("partition global (GEKF)")


def test_note_names_blocks():
    assert make_partition("split", LAYERS, 100).note == "split (SEKF): 5 blocks of 98 weights, block size 100"


def test_bad_input():
    with pytest.raises(
        InputError, match="unknown partition 'blocks'; expected one of global, layer, split, reor"
    ):
        make_partition("blocks", LAYERS, 100)
    with pytest.raises(InputError, match="block size is -1"):
        make_partition("split", LAYERS, -1)
    with pytest.raises(InputError, match="no weights"):
        make_partition("global", [], 100)


def test_layers_are_named_by_what_their_parameters_share():
    parameters = [
        ("fit.0.weight", 12),
        ("fit.0.bias", 3),
        ("fit.1.weight", 3),
        ("fit.1.bias", 1),
        ("shift", 2),
    ]
    assert layers_of(parameters) == [("fit.0", 15), ("fit.1", 4), ("shift", 2)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 5))
def test_ranks_share_the_work(parts, n_ranks):
    partition = make_partition("layer", [Layer(str(i), n) for i, n in enumerate(parts)])
    owners = partition.owners(n_ranks)
    work = [
        sum(n * n for n, owner in zip(parts, owners, strict=True) if owner == rank) for rank in range(n_ranks)
    ]
    assert len(owners) == len(parts)
    # Largest first, each to the least busy: never worse than the mean and the largest block together.
    assert max(work) <= sum(n * n for n in parts) / n_ranks + max(parts) ** 2
