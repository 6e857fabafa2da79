"""Damaged descriptions of a model are refused or evaluated, and never crash the process."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from test_acsf import make_model
from test_acsf_kernel import arguments, unusable

from nnpkit.deploy.metadata import model_metadata
from nnpkit.kernels.native import Kernel, NoKernelError

ROUNDS = 150
WORDS = [
    "null",
    "-1",
    "0",
    "1e308",
    "1e-308",
    "[]",
    "{}",
    '""',
    '"O"',
    "true",
    "99999999999",
    "1.5",
    "[[",
    "}",
]


def damage_text(text: str, random_: random.Random) -> str:
    """Change bytes, numbers or whole values of a JSON text."""
    kind = random_.randrange(4)
    if kind == 0:
        at = random_.randrange(len(text))
        return text[:at] + chr(random_.randrange(32, 127)) + text[at + 1 :]
    if kind == 1:
        return text[: random_.randrange(len(text))]
    places = [i for i, c in enumerate(text) if c in ":[,"]
    at = random_.choice(places) + 1
    end = at + 1
    while end < len(text) and text[end] not in ",]}":
        end += 1
    return text[:at] + random_.choice(WORDS) + text[end:]


def damage_tensors(tensors: dict[str, np.ndarray], random_: random.Random) -> dict[str, np.ndarray]:
    """Drop, cut or poison one tensor."""
    tensors = dict(tensors)
    name = random_.choice(sorted(tensors))
    kind = random_.randrange(4)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors[name] = tensors[name].reshape(-1)[:-1].copy()
    elif kind == 2:
        tensors[name] = np.full_like(tensors[name], random_.choice([np.nan, np.inf, 1e308, -1e308]))
    else:
        tensors[name] = np.zeros((*tensors[name].shape, 2))
    return tensors


@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_damaged_models(precision: str) -> None:
    if unusable("portable"):
        pytest.skip(unusable("portable"))
    model = make_model("tanh3", {"H-O": 1.6})
    text = json.dumps(model_metadata(model))
    tensors = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    args = [a.numpy() for a in arguments(model, 6)]
    random_ = random.Random(20240229)
    refused = 0
    for _ in range(ROUNDS):
        by_text = random_.random() < 0.8
        member = (
            (damage_text(text, random_), tensors) if by_text else (text, damage_tensors(tensors, random_))
        )
        try:
            kernel = Kernel([member], precision)
            found = kernel.evaluate(*args, n_elements=2)
        except (ValueError, NoKernelError):
            refused += 1
            continue
        assert found.gradient.shape == (len(args[1]), 3)
    assert refused > ROUNDS // 4
