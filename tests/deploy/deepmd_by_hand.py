"""A serialised DeePMD model with random numbers, and what it means, evaluated with NumPy and padded lists."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np


def layer(random: np.random.Generator, n_in: int, n_out: int, timestep: bool, hidden: bool) -> dict[str, Any]:
    """One serialised layer."""
    with_timestep = timestep and hidden and n_out in (n_in, 2 * n_in)
    return {
        "@class": "Layer", "@version": 1, "resnet": hidden, "use_timestep": with_timestep, "precision": "float64",
        "activation_function": "tanh" if hidden else "none", "bias": True,
        "@variables": {
            "w": array(random.normal(size=(n_in, n_out))), "b": array(random.normal(size=n_out)),
            "idt": array(random.normal(size=n_out)) if with_timestep else None,
        },
    }  # fmt: skip


def array(values: np.ndarray) -> dict[str, Any]:
    """An array as it stands in the YAML."""
    return {"@class": "np.ndarray", "@version": 1, "dtype": "float64", "value": np.asarray(values).tolist()}


def network(random: np.random.Generator, widths: list[int], timestep: bool, output: bool) -> dict[str, Any]:
    """A serialised network."""
    sizes = list(pairwise(widths))
    layers = [layer(random, a, b, timestep, True) for a, b in sizes]
    return {"layers": layers + ([layer(random, widths[-1], 1, False, False)] if output else [])}


def random_model(one_side: bool = False, timestep: bool = True, seed: int = 1) -> dict[str, Any]:
    """A model of O and H with room for 30 neighbours of each."""
    random = np.random.default_rng(seed)
    sel, neuron, axis, hidden = [30, 40], [2, 4, 4], 3, [5, 5, 10]
    mean, std = np.zeros((2, 70, 4)), np.ones((2, 70, 4))
    mean[..., 0] = np.array([0.11, 0.08])[:, None]
    std[..., 0], std[..., 1:] = np.array([0.2, 0.3])[:, None], np.array([0.15, 0.1])[:, None, None]
    common = {"activation_function": "tanh", "resnet_dt": timestep, "precision": "float64"}
    return {
        "@variables": {},
        "model": {
            "@class": "Model", "@version": 2, "type": "standard", "type_map": ["O", "H"],
            "atom_exclude_types": [], "pair_exclude_types": [],
            "@variables": {"out_bias": array([[[0.5], [-0.25]]]), "out_std": array(np.ones((1, 2, 1)))},
            "descriptor": {
                **common, "type": "se_e2_a", "rcut": 4.5, "rcut_smth": 1.2, "sel": sel, "neuron": neuron,
                "axis_neuron": axis, "type_one_side": one_side, "exclude_types": [], "env_protection": 0.0,
                "spin": None, "@variables": {"davg": array(mean), "dstd": array(std)},
                "embeddings": {
                    "ndim": 1 if one_side else 2, "ntypes": 2,
                    "networks": [network(random, [1, *neuron], timestep, False) for _ in range(2 if one_side else 4)],
                },
            },
            "fitting": {
                **common, "type": "ener", "neuron": hidden, "exclude_types": [], "mixed_types": False, "spin": None,
                "numb_fparam": 0, "numb_aparam": 0, "atom_ener": None,
                "@variables": {"bias_atom_e": array([[-430.0], [-13.0]])},
                "nets": {
                    "ndim": 1, "ntypes": 2,
                    "networks": [network(random, [neuron[-1] * axis, *hidden], timestep, True) for _ in range(2)],
                },
            },
        },
    }  # fmt: skip


def evaluate(stored: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """Outputs (n, n_out) of a serialised network for inputs (n, n_in)."""
    for data in stored["layers"]:
        w, b, idt = (
            data["@variables"][k] and np.array(data["@variables"][k]["value"]) for k in ("w", "b", "idt")
        )
        y = x @ w + b
        if data["activation_function"] == "tanh":
            y = np.tanh(y)
        if idt is not None:
            y = y * idt
        if data["resnet"] and y.shape[1] == x.shape[1]:
            y = y + x
        elif data["resnet"] and y.shape[1] == 2 * x.shape[1]:
            y = y + np.hstack([x, x])
        x = y
    return x


def environment(data: dict[str, Any], vectors: np.ndarray, center: int) -> np.ndarray:
    """Standardised rows (n, 4); all zero where the vector is."""
    r = np.linalg.norm(vectors, axis=1)
    u = (r - data["rcut_smth"]) / (data["rcut"] - data["rcut_smth"])
    weight = np.where(u < 0, 1.0, u**3 * (-6.0 * u**2 + 15.0 * u - 10.0) + 1.0)
    rows = np.column_stack([1.0 / r, vectors / (r * r)[:, None]]) * weight[:, None]
    mean, std = (np.array(data["@variables"][k]["value"])[center, 0] for k in ("davg", "dstd"))
    return (rows - mean) / std


def atomic_energies(
    data: dict[str, Any], vectors: list[np.ndarray], neighbors: list[np.ndarray], types
) -> np.ndarray:
    """Atomic energies, eV, from the vectors (n, 3) to the neighbours of each atom and their types (n,)."""
    model = data["model"]
    descriptor, fitting = model["descriptor"], model["fitting"]
    energies = []
    for own, kinds, center in zip(vectors, neighbors, types, strict=True):
        total = 0.0
        for t, room in enumerate(descriptor["sel"]):
            padded = np.zeros((room, 4))
            mean, std = (np.array(descriptor["@variables"][k]["value"])[center, 0] for k in ("davg", "dstd"))
            padded[:] = -mean / std
            mine = environment(descriptor, own[kinds == t], center)
            padded[: len(mine)] = mine
            index = t if descriptor["type_one_side"] else center + 2 * t
            g = evaluate(descriptor["embeddings"]["networks"][index], padded[:, :1])
            total = total + g.T @ padded
        total = total / sum(descriptor["sel"])
        features = (total @ total[: descriptor["axis_neuron"]].T).reshape(1, -1)
        energy = evaluate(fitting["nets"]["networks"][center], features)[0, 0]
        biases = (fitting["@variables"]["bias_atom_e"], model["@variables"]["out_bias"])
        energies.append(energy + sum(np.ravel(b["value"])[center] for b in biases))
    return np.array(energies)
