"""Things that other packages can add to: ours by name, and those that installed packages offer as entry points.

A package adds a family of models, a labeller, a format, ... by an entry point in its ``pyproject.toml``::

    [project.entry-points."nnpkit.labellers"]
    vasp = "my_package.vasp:VaspReference"

Nothing is imported before it is asked for by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from nnpkit.errors import InputError

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """What there is of one sort, found by name.

    Parameters
    ----------
    what : str
        The sort in words, for messages: ``labeller``.
    group : str
        Group of entry points: ``nnpkit.labellers``.
    own : mapping
        Those of this package, each as ``module:attribute``.
    """

    def __init__(self, what: str, group: str, own: Mapping[str, str]) -> None:
        self.what, self.group = what, group
        self._own = dict(own)
        self._loaded: dict[str, T] = {}
        self._offered: dict[str, EntryPoint] | None = None

    def names(self) -> list[str]:
        """All names, ours first.

        Raises
        ------
        InputError
            If two packages offer the same name.
        """
        return list(dict.fromkeys([*self._own, *self._entry_points(), *self._loaded]))

    def __contains__(self, name: object) -> bool:
        """Whether there is something of that name."""
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.names())

    def add(self, name: str, value: T) -> T:
        """Add something for this process alone.

        Raises
        ------
        InputError
            If the name is taken.
        """
        if name in self.names():
            raise InputError(f"there is a {self.what} {name!r} already", expected="another name")
        self._loaded[name] = value
        return value

    def get(self, name: str, where: str | None = None) -> T:
        """What bears the name, imported now if it was not before.

        Parameters
        ----------
        where : str, optional
            Setting or file that the message about an unknown name points to.

        Raises
        ------
        InputError
            If there is none, if two packages offer it, or if the package that offers it cannot be imported.
        """
        if name not in self._loaded:
            offered = self._entry_points()
            if name in self._own:
                module, _, attribute = self._own[name].partition(":")
                self._loaded[name] = getattr(import_module(module), attribute)
            elif name in offered:
                self._loaded[name] = self._load(offered[name])
            else:
                near = get_close_matches(str(name), self.names(), n=1)
                raise InputError(
                    f"no {self.what} is called {name!r}", where=where, expected=", ".join(self.names()),
                    hint=f"did you mean {near[0]}?" if near else None,
                )  # fmt: skip
        return self._loaded[name]

    def _entry_points(self) -> dict[str, EntryPoint]:
        """Those of installed packages by name."""
        if self._offered is None:
            found: dict[str, EntryPoint] = {}
            for entry in entry_points(group=self.group):
                other = found.get(entry.name)
                if entry.name in self._own or (other is not None and other.value != entry.value):
                    whose = "nnpkit itself" if other is None else f"the package {_package_of(other)}"
                    raise InputError(
                        f"the package {_package_of(entry)} offers a {self.what} {entry.name!r}, and so does {whose}",
                        hint="uninstall one of them, or give it another name",
                    )
                found[entry.name] = entry
            self._offered = found
        return self._offered

    def _load(self, entry: EntryPoint) -> T:
        try:
            loaded: T = entry.load()
        except Exception as error:  # the import of a foreign package raises what it likes
            words = " ".join(str(error).split())[:200]
            raise InputError(
                f"the {self.what} {entry.name!r} of the package {_package_of(entry)} cannot be loaded "
                f"({type(error).__name__}: {words})", where=entry.value, hint="repair or uninstall that package",
            ) from error  # fmt: skip
        return loaded


def _package_of(entry: EntryPoint) -> str:
    """Name of the distribution that an entry point is of."""
    distribution: Any = getattr(entry, "dist", None)
    return str(distribution.name) if distribution is not None else entry.value
