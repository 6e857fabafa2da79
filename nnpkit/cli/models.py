"""What the commands that take a MODEL have in common."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnpkit.deploy.load import LoadedModel

__all__ = ["describe", "load_with_notes"]


def load_with_notes(
    path: Path, units: str | None = None, cflength: float | None = None, cfenergy: float | None = None
) -> LoadedModel:
    """Load any kind of MODEL; what should be known about how it was read goes to stderr."""
    from nnpkit.deploy.load import load

    model = load(path, units, cflength, cfenergy)
    for note in model.notes:
        print(f"nnpkit: note: {note}", file=sys.stderr)
    return model


def describe(model: LoadedModel) -> str:
    """One line about a model."""
    n, elements = model.metadata["n_parameters"], " ".join(model.elements)
    kind = f"committee of {model.n_members}" if model.n_members > 1 else f"{model.metadata['kind']} potential"
    return f"{kind} for {elements}, cutoff {model.cutoff:.4g} Å, {n} parameters"
