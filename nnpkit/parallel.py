"""Processes that train one potential together: who they are, and how they talk.

A training that is started by ``torchrun``, ``srun`` or ``mpirun`` has as many ranks as there are processes; every other
one has a single rank, for which each call here is the identity and no library is loaded. Ranks talk through
torch.distributed with gloo. What is no tensor travels as JSON.

No rank waits for ever: one that is gone, or that says nothing for `TIMEOUT` seconds, ends all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from nnpkit.errors import InputError
from nnpkit.node import Node

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["ALONE", "TIMEOUT", "RankLostError", "Ranks", "Together", "place_of", "start_ranks"]

TIMEOUT = 100.0
"""Seconds after which a rank that says nothing counts as gone."""

_FIRST_PORT, _PORTS = 20000, 20000
_LARGE = 4096  # numbers from which on each of more than two ranks adds up a part of them
Value = TypeVar("Value")


class RankLostError(InputError):
    """Another process of this training is gone."""


class Ranks:
    """One process, which has nobody to talk to; `Together` is several.

    Attributes
    ----------
    rank, size : int
        This one, and how many there are.
    """

    rank, size = 0, 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def add(self, tensor: Tensor) -> Tensor:
        """Sum of a tensor over all ranks; the same bits on all."""
        return tensor

    def exchange(self, parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """Send ``parts[q]`` to rank q; what each rank has sent here, which has these `shapes`."""
        return list(parts)

    def collect(self, value: Value) -> list[Value]:
        """Something that JSON can say, of all ranks."""
        return [value]

    def lead(self, make: Callable[[], Value]) -> Value:
        """What the first rank makes, on all ranks; something that JSON can say."""
        return make()

    def any(self, flag: bool) -> bool:
        """Whether some rank says so."""
        return flag

    def barrier(self) -> None:
        """Wait for all."""

    def leave(self, message: str, code: int) -> None:
        """End this process with an exit code, and leave a message for the first one; nothing where there is one."""


ALONE = Ranks()
"""The only rank."""


class Together(Ranks):
    """Several ranks, through the process group of torch.distributed that `start_ranks` has made, or through memory."""

    def __init__(self, rank: int, size: int, store: Any) -> None:
        self.rank, self.size, self._store = rank, size, store
        self._node: Node | None = None
        if Node.possible(self.collect):
            self._node = self._call(Node, rank, size, self.collect, TIMEOUT)

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A collective call; a rank that is gone becomes one error that says what it said itself."""
        try:
            return function(*arguments, **options)
        except RuntimeError as error:
            said = self._last_words()
            raise RankLostError(
                f"another process of this training has ended{': ' + said if said else ''}",
                hint=None if said else "see what ended it; continue from the last checkpoint with --resume",
            ) from error

    def leave(self, message: str, code: int) -> None:
        """See `Ranks`; at once, since libraries abort when they take leave of a process that is gone."""
        with suppress(RuntimeError):
            self._store.set(f"error-{self.rank}", message)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _last_words(self) -> str:
        for rank in range(self.size):
            with suppress(RuntimeError):
                if rank != self.rank and self._store.check([f"error-{rank}"]):
                    return f"rank {rank}: {self._store.get(f'error-{rank}').decode()}"
        return ""

    def add(self, tensor: Tensor) -> Tensor:
        """See `Ranks`."""
        import torch
        import torch.distributed as dist

        if self._node is None:
            result = tensor.detach().clone().contiguous()
            self._call(dist.all_reduce, result)
            return result
        given = tensor.detach().reshape(-1)
        if self.size == 2 or len(given) < _LARGE:
            return _sum(self._given(self._node, [given] * self.size), given.dtype).view(tensor.shape)
        parts = given.tensor_split(self.size)
        own = _sum(self._given(self._node, parts), given.dtype)
        found = [_tensor(view, given.dtype) for view in self._given(self._node, [own] * self.size)]
        return torch.cat(found).view(tensor.shape)

    def exchange(self, parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
        """See `Ranks`."""
        import torch
        import torch.distributed as dist

        if self._node is not None:
            flat = [part.detach().reshape(-1) for part in parts]
            views = self._given(self._node, flat)
            return [_tensor(v, flat[0].dtype).view(shape) for v, shape in zip(views, shapes, strict=True)]
        given = [part.numel() for part in parts]
        taken = [int(torch.Size(shape).numel()) for shape in shapes]
        sent = torch.cat([part.reshape(-1) for part in parts])
        received = sent.new_empty(sum(taken))
        self._call(dist.all_to_all_single, received, sent, taken, given)
        return [piece.view(shape) for piece, shape in zip(received.split(taken), shapes, strict=True)]

    def _given(self, node: Node, flat: Sequence[Tensor]) -> list[memoryview]:
        """Memory with what all ranks give this one, valid until the next but one call."""
        views: list[memoryview] = []
        for number, part in enumerate(flat):
            same = number > 0 and part is flat[number - 1]
            views.append(views[-1] if same else memoryview(_bytes(part)))
        return list(self._call(node.give, views))

    def collect(self, value: Value) -> list[Value]:
        """See `Ranks`."""
        import torch
        import torch.distributed as dist

        text = json.dumps(value).encode() or b" "
        if self._node is not None:
            views = self._call(self._node.give, [memoryview(text)] * self.size)
            return [json.loads(bytes(view)) for view in views]
        own = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        self._call(dist.all_gather, sizes, torch.tensor([len(own)]))
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(own)] = own
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        self._call(dist.all_gather, texts, padded)
        return [
            json.loads(bytes(text[: int(size)].tolist())) for text, size in zip(texts, sizes, strict=True)
        ]

    def lead(self, make: Callable[[], Value]) -> Value:
        """See `Ranks`."""
        return self.collect(make() if self.leads else None)[0]  # type: ignore[return-value]

    def any(self, flag: bool) -> bool:
        """See `Ranks`."""
        import torch

        return bool(self.add(torch.tensor([int(flag)]))[0] > 0)

    def barrier(self) -> None:
        """See `Ranks`."""
        self.any(False)


def _bytes(tensor: Tensor) -> Any:
    """Memory of a tensor (n,) as an array of bytes."""
    import torch

    return tensor.contiguous().view(torch.uint8).numpy()


def _array(view: memoryview, dtype: torch.dtype) -> Any:
    """Numbers in memory, which may change later."""
    import numpy as np
    import torch

    return np.frombuffer(view, dtype=torch.empty(0, dtype=dtype).numpy().dtype)


def _tensor(view: memoryview, dtype: torch.dtype) -> Tensor:
    """A copy (n,)."""
    import torch

    return torch.from_numpy(_array(view, dtype).copy())


def _sum(views: Sequence[memoryview], dtype: torch.dtype) -> Tensor:
    """Sum (n,) over the ranks, in their order."""
    import torch

    first, *others = (_array(view, dtype) for view in views)
    total = first.copy()
    for other in others:
        total += other
    return torch.from_numpy(total)


def place_of(environment: Mapping[str, str]) -> tuple[int, int, str] | None:
    """Rank, number of ranks and what started them, as the launcher says in the environment; None for one process.

    Raises
    ------
    InputError
        If the environment contradicts itself.
    """
    for launcher, rank, size in (
        ("torchrun", "RANK", "WORLD_SIZE"),
        ("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
        ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("mpirun", "PMI_RANK", "PMI_SIZE"),
    ):
        if rank in environment and size in environment:
            try:
                own, total = int(environment[rank]), int(environment[size])
            except ValueError:
                own, total = -1, 0
            if not 0 <= own < total:
                raise InputError(
                    f"rank {environment[rank]} of {environment[size]}",
                    where=f"{rank} and {size} of {launcher}",
                )
            return (own, total, launcher) if total > 1 else None
    return None


def start_ranks(environment: Mapping[str, str] | None = None) -> Ranks:
    """Join the other processes of this training, if its launcher has started several.

    ``MASTER_ADDR`` and ``MASTER_PORT`` say where the first rank is; Slurm and a single node need neither.

    Raises
    ------
    InputError
        If the others cannot be reached.
    """
    environment = os.environ if environment is None else environment
    place = place_of(environment)
    if place is None:
        return ALONE
    rank, size, launcher = place
    import torch.distributed as dist

    address, port = _address(environment, launcher), _port(environment)
    if address == "127.0.0.1":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    served = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
    limit = timedelta(seconds=TIMEOUT)
    try:
        store = dist.TCPStore(address, port, size, rank == 0 and not served, limit, wait_for_workers=False)
        own = dist.PrefixStore(f"nnpkit-{environment.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        dist.init_process_group("gloo", store=own, rank=rank, world_size=size, timeout=limit)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"rank {rank} cannot reach the others at {address}:{port}: {' '.join(str(error).split())[:120]}",
            hint="set MASTER_ADDR to the node of rank 0 and MASTER_PORT to a free port",
        ) from None
    return Together(rank, size, own)


def _address(environment: Mapping[str, str], launcher: str) -> str:
    """Node of the first rank."""
    if given := environment.get("MASTER_ADDR"):
        return given
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    if launcher == "srun" and int(environment.get("SLURM_STEP_NUM_NODES", 1)) > 1:
        with suppress(OSError, subprocess.SubprocessError):
            command = ["scontrol", "show", "hostnames", nodes]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
        raise InputError("scontrol does not say which nodes these are", where=nodes, hint="set MASTER_ADDR")
    local, total = (environment.get(f"OMPI_COMM_WORLD_{name}SIZE") for name in ("LOCAL_", ""))
    if launcher == "mpirun" and local != total:
        raise InputError("several nodes and no MASTER_ADDR", hint="set MASTER_ADDR to the node of rank 0")
    return "127.0.0.1"


def _port(environment: Mapping[str, str]) -> int:
    """A port that all ranks of a job agree on and other jobs are unlikely to have."""
    if given := environment.get("MASTER_PORT"):
        return int(given)
    job = [environment.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID", "PMIX_NAMESPACE")]
    return _FIRST_PORT + zlib.crc32(":".join([*job, "" if any(job) else str(os.getppid())]).encode()) % _PORTS
