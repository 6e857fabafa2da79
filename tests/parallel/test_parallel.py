"""Processes that train together: who they are, what they exchange, and what happens when one is gone."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from rank_tools import together

from nnpkit.errors import InputError
from nnpkit.parallel import ALONE, RankLostError, Together, place_of, start_ranks


def everything(ranks: Together) -> dict[str, Any]:
    import torch

    r = ranks.rank
    parts = [torch.full((r + 1, 2), 10.0 * r + q) for q in range(ranks.size)]
    received = ranks.exchange(parts, [(q + 1, 2) for q in range(ranks.size)])
    return {
        "sum": ranks.add(torch.tensor([1.0 + r, 0.1])).tolist(),
        "received": [part.tolist() for part in received],
        "collected": ranks.collect({"rank": r, "long": "x" * (50 * r)}),
        "lead": ranks.lead(lambda: f"of {r}"),
        "any": [ranks.any(r == 1), ranks.any(False)],
        "leads": ranks.leads,
    }


def test_what_ranks_exchange() -> None:
    first, second = together(everything)
    for found, own in ((first, 0), (second, 1)):
        assert found["sum"] == pytest.approx([3.0, 0.2])
        assert found["received"] == [[[float(own)] * 2], [[10.0 + own] * 2] * 2]
        assert found["collected"] == [{"rank": 0, "long": ""}, {"rank": 1, "long": "x" * 50}]
        assert found["lead"] == "of 0"
        assert found["any"] == [True, False]
    assert (first["leads"], second["leads"]) == (True, False)


def dies(ranks: Together) -> None:
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(100):
        ranks.barrier()


def test_a_rank_that_is_killed_ends_the_others_with_one_message() -> None:
    began = time.monotonic()
    (error,) = together(dies, expected=1)
    assert time.monotonic() - began < 180.0
    assert isinstance(error, RankLostError)
    assert "another process of this training has ended" in str(error)
    assert "--resume" in str(error)


def says_why(ranks: Together) -> None:
    if ranks.rank == 1:
        ranks.leave("b.xyz: no such file.", 1)
    for _ in range(100):
        ranks.barrier()


def test_the_first_rank_tells_what_another_said() -> None:
    (error,) = together(says_why, expected=1)
    assert "rank 1: b.xyz: no such file" in str(error)


def test_places_that_launchers_give() -> None:
    assert place_of({}) is None
    assert place_of({"RANK": "1", "WORLD_SIZE": "4"}) == (1, 4, "torchrun")
    assert place_of({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}) == (2, 3, "srun")
    assert place_of({"SLURM_PROCID": "0", "SLURM_NTASKS": "3"}) is None  # the batch script itself
    assert place_of({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}) == (0, 2, "mpirun")
    assert place_of({"PMI_RANK": "1", "PMI_SIZE": "2"}) == (1, 2, "mpirun")
    assert place_of({"RANK": "0", "WORLD_SIZE": "1"}) is None
    for wrong in ({"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}):
        with pytest.raises(InputError, match=r"RANK and WORLD_SIZE of torchrun: rank . of 2"):
            place_of(wrong)
    with pytest.raises(InputError, match="several nodes and no MASTER_ADDR"):
        start_ranks(
            {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}
        )


def test_one_process_is_alone_and_needs_nothing() -> None:
    ranks = start_ranks({})
    assert ranks is ALONE
    marker = object()
    assert ranks.add(marker) is marker
    assert ranks.collect(3) == [3]
    assert ranks.exchange([marker], [(1,)]) == [marker]
    assert ranks.lead(lambda: 5) == 5
    assert ranks.any(True)
    assert not ranks.any(False)
