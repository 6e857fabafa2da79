"""Errors meant for the person who runs nnpkit: one message that says what, where and what to do."""

from __future__ import annotations

__all__ = ["DivergedError", "InputError", "NnpkitError"]


class NnpkitError(Exception):
    """Base class of everything nnpkit raises on purpose."""


class InputError(NnpkitError):
    """Something the user gave (file, key, frame, label, option) cannot be used.

    Parameters
    ----------
    what : str
        What is wrong, in one sentence without the full stop.
    where : str, optional
        File, line, YAML key or frame.
    expected : str, optional
        What would have been accepted.
    hint : str, optional
        What to do next.
    """

    def __init__(
        self, what: str, *, where: str | None = None, expected: str | None = None, hint: str | None = None
    ) -> None:
        self.what, self.where, self.expected, self.hint = what, where, expected, hint
        message = f"{where}: {what}" if where else what
        if expected:
            message += f"; expected {expected}"
        if hint:
            message += f". {hint[0].upper()}{hint[1:]}"
        super().__init__(message if message.endswith((".", "?")) else message + ".")


class DivergedError(InputError):
    """A training has lost its way: numbers that are not finite, a covariance that is none any more."""
