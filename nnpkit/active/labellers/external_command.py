"""Labels from any program: write a structure, run a command, read extended XYZ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnpkit.active.labellers.reference_calculation import CalculationError, state_of
from nnpkit.active.programs import run_program
from nnpkit.data.electronic import ElectronicState
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["CommandReference"]


class CommandReference:
    """Labels from a program of the user.

    Parameters
    ----------
    command : sequence of str
        Program and arguments, no shell. ``{input}`` and ``{output}`` stand for the files, ``{charge}``
        and ``{multiplicity}`` for those of the structure, ``{NAME}`` for the setting NAME. It runs in a folder of
        its own.
    input, output : str
        Names of the file that is written and of the one that is read: extended XYZ with energy (eV), forces
        (eV/Å) and perhaps stress (eV/Å³).
    input_format : str
        Format of the written file, any that `nnpkit convert` writes.
    settings : mapping
        Values for the command; `changes` of an attempt replace some.
    reads_state : bool
        The program takes charge and spin from ``NNPKIT_CHARGE`` and ``NNPKIT_MULTIPLICITY`` of its environment, or
        from the input file. Otherwise ``{charge}`` and ``{multiplicity}`` must be in the command for structures that
        are charged or of higher spin.
    """

    def __init__(
        self,
        command: Sequence[str],
        input: str = "structure.xyz",
        output: str = "labels.xyz",
        input_format: str = "extxyz",
        settings: Mapping[str, Any] | None = None,
        reads_state: bool = False,
    ) -> None:
        self.reads_state = reads_state
        self.command, self.input, self.output, self.input_format = list(command), input, output, input_format
        self.settings = dict(settings or {})
        self.identity = {
            "kind": "command", "command": self.command, "input": input, "output": output,
            "input_format": input_format, "settings": self.settings,
        }  # fmt: skip

    def require(self, state: ElectronicState) -> None:
        """Accept a charge and multiplicity; see `nnpkit.active.labellers.reference_calculation.ReferenceCalculator`."""
        words = " ".join(self.command)
        for what, other in (("charge", state.charge != 0.0), ("multiplicity", not state.lowest)):
            if other and not self.reads_state and f"{{{what}}}" not in words:
                raise InputError(
                    f"the command does not get the {what} of the structure ({state})", where="reference.command",
                    hint=f"put {{{what}}} into it, or say reads_state: true if the program reads NNPKIT_{what.upper()} "
                    "or the input file",
                )  # fmt: skip

    def compute(self, structure: Structure, folder: Path, changes: Mapping[str, Any]) -> Structure:
        """Label of one structure; see `nnpkit.active.labellers.reference_calculation.ReferenceCalculator`."""
        state = state_of(structure)
        charge = f"{state.charge:g}"
        values = {
            "charge": charge, "multiplicity": state.multiplicity, **self.settings, **changes,
            "input": self.input, "output": self.output,
        }  # fmt: skip
        try:
            command = [word.format(**values) for word in self.command]
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(
                f"the command has a placeholder without a value ({error})", where="reference.command",
                expected="{input}, {output}, {charge}, {multiplicity} or one of "
                + (", ".join(self.settings) or "reference.settings"),
            ) from None  # fmt: skip
        write(folder / self.input, [structure], self.input_format)
        environment = {"NNPKIT_CHARGE": charge, "NNPKIT_MULTIPLICITY": str(state.multiplicity)}
        code = run_program(command, folder, "command.log", environment)
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
