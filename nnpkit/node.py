"""Processes of one computer that give each other arrays through memory.

Every process writes into memory that all others see, two pieces in turn, and tells each of them where over a local
socket. Who has read something says so by telling where his own next array is: nothing is written over before. The
sockets order the memory of the processors, let a process sleep that waits for long, and close when one is killed. The
memory has no name, so nothing of it is left behind.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence

__all__ = ["Node", "NodeError"]

_MESSAGE = struct.Struct("<qq")  # first byte and number of bytes of what the receiver is given
_SMALLEST = 1 << 20  # bytes
_WATCHED = (
    300e-6  # seconds that a process looks again and again before it sleeps; two are rarely further apart
)
_CREDENTIALS = struct.Struct("3i")


class NodeError(RuntimeError):
    """A process is gone, or has said nothing for too long."""


class _Piece:
    """Memory of this process that others read."""

    def __init__(self) -> None:
        self.descriptor, self.memory, self.known = -1, mmap.mmap(-1, 1), True

    def reserve(self, n_bytes: int) -> None:
        """Room for so many bytes; others have not seen it if it is new."""
        if self.descriptor >= 0 and n_bytes <= len(self.memory):
            return
        if self.descriptor >= 0:
            os.close(self.descriptor)
        size = max(_SMALLEST, n_bytes + n_bytes // 4)
        self.descriptor = os.memfd_create("nnpkit")
        os.ftruncate(self.descriptor, size)
        self.memory, self.known = mmap.mmap(self.descriptor, size), False


class Node:
    """This process and the others of its computer.

    Parameters
    ----------
    rank, size : int
        This one, and how many there are.
    collect : callable
        Gives what all processes say, in their order, as text.
    patience : float
        Seconds to wait for another process.
    """

    def __init__(self, rank: int, size: int, collect: Callable[[str], list[str]], patience: float) -> None:
        self.rank, self.size, self.patience = rank, size, patience
        self._peers: dict[int, socket.socket] = {}
        self._pieces = [_Piece(), _Piece()]
        self._seen: dict[tuple[int, int], mmap.mmap] = {}
        self._turn = 0
        name = f"\0nnpkit-{secrets.token_hex(16)}"  # a name that no file has
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            door.bind(name)
            door.listen(size)
            names = collect(name)
            for other in range(rank):
                peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                peer.connect(names[other])
                peer.send(struct.pack("<q", rank))
                self._peers[other] = peer
            door.settimeout(patience)
            for _ in range(rank + 1, size):
                peer, _address = door.accept()
                if _user_of(peer) != os.getuid():
                    raise NodeError("a stranger wants to take part")
                self._peers[struct.unpack("<q", peer.recv(8))[0]] = peer

    @staticmethod
    def possible(collect: Callable[[str], list[str]]) -> bool:
        """Whether all processes are on one computer that has what is needed here; they ask together."""
        place = ""
        with contextlib.suppress(OSError, AttributeError):
            os.close(os.memfd_create("nnpkit"))
            # processes in other containers may have the same computer, but neither its sockets nor its users
            spaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "user")]
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                place = " ".join([file.read().strip(), *spaces])
        places = collect(place)
        return bool(place) and len(set(places)) == 1

    def give(self, parts: Sequence[memoryview]) -> list[memoryview]:
        """Give ``parts[q]`` to process q; what each has given here, its own part too, until the next but one call.

        Raises
        ------
        NodeError
            If a process is gone.
        """
        turn, self._turn = self._turn, 1 - self._turn
        piece, at = self._pieces[turn], 0
        places: list[tuple[int, int]] = []
        for number, part in enumerate(parts):  # what all get is there once
            same = number > 0 and part is parts[number - 1]
            places.append(places[-1] if same else (at, part.nbytes))
            at += 0 if same else -(-part.nbytes // 64) * 64
        piece.reserve(at)
        for number, (part, (first, n_bytes)) in enumerate(zip(parts, places, strict=True)):
            if number == 0 or part is not parts[number - 1]:
                piece.memory[first : first + n_bytes] = part
        new = [] if piece.known else [piece.descriptor]
        piece.known = True
        for other, peer in self._peers.items():
            try:
                socket.send_fds(peer, [_MESSAGE.pack(*places[other])], new)
            except OSError:
                raise NodeError(f"rank {other} is gone") from None
        found = []
        for other in range(self.size):
            if other == self.rank:
                first, n_bytes = places[other]
                found.append(memoryview(piece.memory)[first : first + n_bytes])
            else:
                found.append(self._taken(other, turn))
        return found

    def _taken(self, other: int, turn: int) -> memoryview:
        message, descriptors = self._received(other)
        if len(message) != _MESSAGE.size:
            raise NodeError(f"rank {other} is gone")
        for descriptor in descriptors:
            self._seen[other, turn] = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
            os.close(descriptor)
        first, n_bytes = _MESSAGE.unpack(message)
        return memoryview(self._seen[other, turn])[first : first + n_bytes]

    def _received(self, other: int) -> tuple[bytes, list[int]]:
        peer, since = self._peers[other], time.monotonic()
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(peer, _MESSAGE.size, 1, socket.MSG_DONTWAIT)
                return message, descriptors
            except BlockingIOError:
                waited = time.monotonic() - since
            except OSError:
                raise NodeError(f"rank {other} is gone") from None
            if waited > self.patience:
                raise NodeError(f"rank {other} has said nothing for {self.patience:.0f} s")
            if waited < _WATCHED:
                os.sched_yield()
            else:
                select.select([peer], [], [], self.patience - waited)


def _user_of(peer: socket.socket) -> int:
    """User of the process at the other end."""
    _, user, _ = _CREDENTIALS.unpack(
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return int(user)
