"""The archive of a model.pt: its metadata, and whether its numbers are those that were exported."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import torch
from torch import nn

from nnpkit.deploy.metadata import METADATA_FILE
from nnpkit.deploy.targets.torchscript import quiet_torchscript, self_test_deviation
from nnpkit.errors import InputError

__all__ = ["KINDS", "check_numbers", "read_metadata", "scripted_module"]

_ENERGY_TOLERANCE = 1e-10  # relative to max(1 eV, |E|); double precision on other machines stays far below
_GRADIENT_TOLERANCE = 1e-8  # eV/Å
_DAMAGED_ZIP = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    KeyError, IndexError, OverflowError, MemoryError,
)  # fmt: skip
"""What Python's zip reader raises for one bad byte or another."""
KINDS = "a model.pt, a run folder, a checkpoint folder, a RuNNer folder with input.nn or a DeePMD model.yaml"
"""What a MODEL may be, for messages."""


def read_metadata(content: bytes, where: str) -> str:
    """Text of the metadata; InputError if this is no TorchScript archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if not any(name.endswith("/constants.pkl") for name in names):
                raise InputError("no TorchScript file", where=where, expected=KINDS)
            extra = [name for name in names if name.endswith("/extra/" + METADATA_FILE)]
            return archive.read(extra[0]).decode("utf-8") if extra else ""
    except _DAMAGED_ZIP as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"no model file ({reason})", where=where, expected=KINDS) from None


def check_numbers(module: nn.Module, where: str) -> None:
    """Evaluate the self-test and compare with what was stored at export."""
    try:
        energy, gradient = self_test_deviation(module)
    except (RuntimeError, AttributeError, TypeError) as failure:
        reason = str(failure).strip().splitlines()[-1][:200]
        raise InputError(f"the model cannot be evaluated ({reason})", where=where) from None
    if not (energy <= _ENERGY_TOLERANCE and gradient <= _GRADIENT_TOLERANCE):
        raise InputError(
            f"the model fails its self-test: energies are off by {energy:.1e} of themselves, gradients by "
            f"{gradient:.1e} eV/Å", where=where, expected=f"{_ENERGY_TOLERANCE:g} and {_GRADIENT_TOLERANCE:g}",
            hint="the file was altered or this torch computes something else; export it again",
        )  # fmt: skip


def scripted_module(content: bytes, where: str) -> nn.Module:
    """The module in the bytes of a model.pt, for predictions only.

    Raises
    ------
    InputError
        If torch cannot load it.
    """
    with quiet_torchscript():
        try:
            module = torch.jit.load(io.BytesIO(content), map_location="cpu")
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise InputError(f"torch cannot load this model ({reason})", where=where) from None
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module
