"""Words and numbers that settings of several sections of ``model`` may be."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["Activation", "CutoffFunction", "on_off"]

CutoffFunction = Literal[
    "cosine", "tanh3", "tanh3_normalized", "exponential", "poly1", "poly2", "poly3", "poly4", "hard"
]
Activation = Literal[
    "tanh", "logistic", "softplus", "gaussian", "cosine", "relu", "reverse_logistic", "exponential",
    "harmonic", "linear",
]  # fmt: skip


def on_off(value: Any) -> Any:
    """YAML 1.1 readers turn the words on and off into booleans."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value
