"""Labels from any program: write a structure, run a command, read extended XYZ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnpkit.active.labelling import CalculationError
from nnpkit.active.programs import run_program
from nnpkit.data.formats import read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["CommandReference"]


class CommandReference:
    """Labels from a program of the user.

    Parameters
    ----------
    command : sequence of str
        Program and arguments, no shell. ``{input}`` and ``{output}`` stand for the files, ``{NAME}`` for the
        setting NAME. It runs in a folder of its own.
    input, output : str
        Names of the file that is written and of the one that is read: extended XYZ with energy (eV), forces
        (eV/Å) and perhaps stress (eV/Å³).
    input_format : str
        Format of the written file, any that `nnpkit convert` writes.
    settings : mapping
        Values for the command; `changes` of an attempt replace some.
    """

    def __init__(
        self,
        command: Sequence[str],
        input: str = "structure.xyz",
        output: str = "labels.xyz",
        input_format: str = "extxyz",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.command, self.input, self.output, self.input_format = list(command), input, output, input_format
        self.settings = dict(settings or {})
        self.identity = {
            "kind": "command", "command": self.command, "input": input, "output": output,
            "input_format": input_format, "settings": self.settings,
        }  # fmt: skip

    def compute(self, structure: Structure, folder: Path, changes: Mapping[str, Any]) -> Structure:
        """Label of one structure; see `nnpkit.active.labelling.ReferenceCalculator`."""
        values = {**self.settings, **changes, "input": self.input, "output": self.output}
        try:
            command = [word.format(**values) for word in self.command]
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"the command has a placeholder without a value ({error})", where="reference.command",
                expected=f"{{input}}, {{output}} or one of {', '.join(self.settings) or 'reference.settings'}",
            ) from None  # fmt: skip
        write(folder / self.input, [structure], self.input_format)
        code = run_program(command, folder, "command.log")
        output = folder / self.output
        if code:
            raise CalculationError(
                f"{command[0]} ended with exit code {code}{last_words(folder / 'command.log')}"
            )
        if not output.exists():
            raise CalculationError(f"{command[0]} left no {self.output}{last_words(folder / 'command.log')}")
        frames = read(output, "extxyz")
        if len(frames) != 1:
            raise CalculationError(f"{self.output} holds {len(frames)} structures instead of one")
        return frames[0]


def last_words(log: Path) -> str:
    """The last line of a log that says something, for a message."""
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    said = [line for line in lines if line]
    return f" after printing: {said[-1][:200]}" if said else ""
