"""Structures that are prepared at each use, and ahead of it where a thread is free for that.

A structure that does not fit into memory is prepared anew whenever it is used, which may take as long as learning from
it. Whoever knows which structures come next says so, and a thread prepares them while others are being learnt from;
kernels, PyTorch and the search for neighbours all let Python go on meanwhile. What is prepared depends on the
structures alone, so that numbers are the same with and without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar, runtime_checkable

__all__ = ["Ahead", "PreparesAhead"]

Prepared = TypeVar("Prepared")


class Ahead(Generic[Prepared]):
    """Structures in preparation, and those of the present update as long as it lasts.

    Parameters
    ----------
    make : callable
        Prepares the structure with an index; and, if its second argument says so, also what an update will need of it.
    is_kept : callable
        Whether nothing has to be prepared of a structure.
    """

    def __init__(self, make: Callable[[int, bool], Prepared], is_kept: Callable[[int], bool]) -> None:
        self._make, self._is_kept = make, is_kept
        self._present: dict[int, Prepared | None] = {}  # of the present update, None: not asked for yet
        self._coming: dict[int, Future[Prepared]] = {}
        self._thread: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Prepare structures in a thread from now on."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="nnpkit-ahead")

    def stop(self) -> None:
        """Forget what is prepared, and end the thread."""
        self.expect((), ())
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None

    def expect(self, present: Sequence[int], coming: Sequence[int], for_update: bool = True) -> None:
        """Say which structures are used now, in their order, and which ones after them.

        Parameters
        ----------
        for_update : bool
            Whether an update learns from them; else only their predictions are wanted.
        """
        self._present = {index: self._present.get(index) for index in present if not self._is_kept(index)}
        if self._thread is None:
            return
        wanted = [index for index in dict.fromkeys((*present, *coming)) if not self._is_kept(index)]
        for index in self._coming.keys() - set(wanted):
            self._coming.pop(index).cancel()
        for index in wanted:
            waits = index not in self._coming and self._present.get(index) is None
            if waits and index != next(iter(present), None):  # the first one is asked for at once
                self._coming[index] = self._thread.submit(self._make, index, for_update)

    def get(self, index: int) -> Prepared:
        """The prepared structure; an error of its preparation is raised here."""
        found = self._present.get(index)
        if found is None:
            future = self._coming.pop(index, None)
            found = self._make(index, False) if future is None else future.result()
            if index in self._present:
                self._present[index] = found
        return found


@runtime_checkable
class PreparesAhead(Protocol):
    """A store of structures that has an `Ahead`."""

    ahead: Ahead[object]
