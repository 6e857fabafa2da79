"""Tensors by name that are made, or read, when they are asked for: the state of something large, one piece at a time.

A name with a slash, ``block-00003/triangle``, belongs to a piece, ``block-00003``, which is kept in a file of its
own and by one of the processes that share the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

__all__ = ["LateTensors", "joined", "only"]


class LateTensors(Mapping[str, Tensor]):
    """A mapping whose values are made anew at each access.

    Parameters
    ----------
    makers : mapping
        For each name what makes the tensor.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._makers = dict(makers)

    def __getitem__(self, name: str) -> Tensor:
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _later(tensors: Mapping[str, Tensor], name: str) -> Callable[[], Tensor]:
    return lambda: tensors[name]


def joined(*parts: Mapping[str, Tensor]) -> LateTensors:
    """All of these, nothing of which is made before it is asked for."""
    return LateTensors({name: _later(part, name) for part in parts for name in part})


def only(tensors: Mapping[str, Tensor], keep: Callable[[str], bool]) -> LateTensors:
    """Those whose names are wanted."""
    return LateTensors({name: _later(tensors, name) for name in tensors if keep(name)})
