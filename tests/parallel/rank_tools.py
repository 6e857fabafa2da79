"""Functions on several ranks, which are processes of their own."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

from nnpkit.errors import InputError
from nnpkit.parallel import start_ranks


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _work(rank: int, size: int, port: int, function: Callable[..., Any], answers: Any) -> None:
    import torch

    torch.set_num_threads(1)
    environment = {
        "RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    ranks = start_ranks(environment)
    try:
        answers.put((rank, function(ranks)))
    except InputError as error:
        answers.put((rank, error))


def together(function: Callable[..., Any], size: int = 2, expected: int | None = None) -> list[Any]:
    """What `function` returns on each of some ranks, processes of their own."""
    context = multiprocessing.get_context("fork")
    answers, port = context.Queue(), free_port()
    processes = [context.Process(target=_work, args=(r, size, port, function, answers)) for r in range(size)]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=200) for _ in range(size if expected is None else expected))
    for process in processes:
        process.join(timeout=60)
    return [found[rank] for rank in sorted(found)]
