"""Calculators of ASE, in this Python or in that of another environment, as labelling wants them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nnpkit.active.labellers.reference_calculation import CalculationError
from nnpkit.active.programs import end_with_parent
from nnpkit.data import calculator_process
from nnpkit.data.calculators import INSTALLED_BY, calculator_class, dotted_name
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["Calculations", "Elsewhere", "Here"]


class Calculations(Protocol):
    """A class of calculators that can be asked.

    Attributes
    ----------
    description : mapping
        Of `nnpkit.data.calculator_process.describe`.
    """

    description: Mapping[str, Any]

    def evaluate(self, structure: Structure, arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """What `nnpkit.data.calculator_process.evaluate` returns; a failure is a `CalculationError`."""
        ...


class Here:
    """The calculator `name` of this Python; `InputError` if there is none."""

    def __init__(self, name: str) -> None:
        self.name, self._class = name, calculator_class(name)
        self.description: Mapping[str, Any] = calculator_process.describe(self._class)

    def evaluate(self, structure: Structure, arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """See `Calculations`."""
        try:
            return calculator_process.evaluate(self._class, arguments, structure.to_atoms())
        except OSError:
            raise
        except Exception as error:  # a calculator raises whatever its program makes it raise
            raise CalculationError(f"{self.name}: {calculator_process.words_of(error)}") from None


class Elsewhere:
    """The calculator `name` of another Python, in a process that stays for the structures to come.

    Parameters
    ----------
    name : str
        As of `nnpkit.data.calculators.calculator_class`.
    python : str
        Path of the interpreter, e.g. of a virtual environment.

    Raises
    ------
    InputError
        If there is no such interpreter, or no such calculator in its environment.
    """

    def __init__(self, name: str, python: str) -> None:
        found = shutil.which(os.path.expanduser(python))
        if found is None:
            raise InputError(
                f"there is no program {python}", where="reference.python",
                expected="the Python of an environment with ase and the calculator, such as /path/to/venv/bin/python",
            )  # fmt: skip
        self.name, self.python = name, found
        self._process: subprocess.Popen[str] | None = None
        self.description: Mapping[str, Any] = self._start()

    def __del__(self) -> None:
        """End the process, which ends with its input."""
        self._end()

    def _start(self) -> dict[str, Any]:
        self._process = subprocess.Popen(
            [self.python, "-I", calculator_process.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent,
        )  # fmt: skip
        try:
            answer = self._ask({"class": dotted_name(self.name)})
        except CalculationError as error:
            answer = {"error": str(error)}
        if "error" in answer:
            hint = f"{self.python} -m pip install {INSTALLED_BY.get(self.name, '...')}"
            raise InputError(
                f"there is no calculator {self.name!r} in the environment of {self.python} ({answer['error']})",
                where="reference.python", hint=f"install it there, with ase: {hint}",
            )  # fmt: skip
        return answer

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        if not line.endswith("\n"):
            code = process.wait()
            self._end()
            died = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise CalculationError(f"{self.name}: its process {died}; its last words are in the log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        process, self._process = getattr(self, "_process", None), None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()
            process.kill()
            process.wait()

    def evaluate(self, structure: Structure, arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """See `Calculations`; a process that died is started anew for the next structure."""
        if self._process is None:
            self._start()
        atoms = {
            "symbols": list(structure.symbols), "positions": structure.positions.tolist(),
            "cell": np.asarray(structure.cell).tolist(), "pbc": structure.pbc.tolist(),
        }  # fmt: skip
        answer = self._ask({"atoms": atoms, "arguments": dict(arguments), "folder": str(folder.absolute())})
        if "error" in answer:
            raise CalculationError(f"{self.name}: {answer['error']}")
        arrays = {k: None if v is None else np.asarray(v, dtype=np.float64) for k, v in answer.items()}
        return {**arrays, "energy": answer["energy"]}
