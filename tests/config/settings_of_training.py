"""For every key of the training YAML: a change of it that must show, and in what kind of training."""

from __future__ import annotations

__all__ = ["BASES", "EXCUSED", "PROBES", "REFUSED", "YAML"]

YAML = """\
seed: 5
data: {train: train.extxyz, split: random, validation_fraction: 0.17, test_fraction: 0.17}
model:
  descriptor: {cutoff: 4.0, zetas: [1], radial: 2}
  network: {hidden: [3]}
training: {epochs: 2, threads: 1, memory_budget_gb: 1.0, schedule: {forces: 4}}
"""

_FUNCTIONS = (
    "[{kind: G2, center: Cu, neighbors: [Cu], eta: 0.1}, {kind: G3, center: Cu, neighbors: [Cu, Au], eta: 0.01},"
    " {kind: G2, center: Au, neighbors: [Cu], eta: 0.1}, {kind: G2, center: Au, neighbors: [Au], eta: 0.2}]"
)
_GIVEN = "{cutoff: 4.0, functions: " + _FUNCTIONS + "}"
_DEEP = "{kind: deep_potential, descriptor: {cutoff: 4.0, embedding: [4], axis_neurons: 2}, network: {hidden: [4, 4]}}"
_CHEBYSHEV = (
    "{kind: chebyshev, network: {hidden: [3]}, descriptor: {radial_order: 2, radial_cutoff: 4.0, angular_order: 1,"
    " angular_cutoff: 3.0}}"
)
_CLUSTER = (
    "{kind: cluster_expansion, network: {hidden: [3]}, descriptor: {radial_cutoff: 4.0, angular_cutoff: 3.5,"
    " radial_channels: 2, radial_basis: 3, angular_channels: 1, angular_basis: 3, invariants: [[1, 1], [2, 2, 2]]}}"
)
_NEP = (
    "{kind: nep, network: {hidden: [3]}, descriptor: {radial_cutoff: 4.0, angular_cutoff: 3.5, n_max_radial: 1,"
    " n_max_angular: 0, basis_size_radial: 2, basis_size_angular: 2, l_max: 2}}"
)
_NO_FORCES = "training.schedule={kind: epoch}"

BASES: dict[str, list[str]] = {
    "plain": [],
    "default sets": ["data.validation_fraction=0.1", "data.test_fraction=0.0"],
    "given test": ["data.test=test.extxyz", "data.test_fraction=0.1"],
    "groups of frames": ["data.split=by_group", "data.group=kind"],
    "groups of errors": ["data.groups=other"],
    "balanced": ["data.groups=kind", "training.sampling=balanced"],
    "twice": ["data.train=[train.extxyz, test.extxyz]"],
    "folds": ["data.folds=3", "data.test_fraction=0.1"],
    "model baseline": ["data.baseline={kind: model, file: earlier}"],
    "ase baseline": ["data.baseline={kind: ase, calculator: lj}", "data.suspicious=ignore"],
    "functions": ["model.descriptor=" + _GIVEN],
    "file": ["model.descriptor={functions: {file: input.nn}, units: angstrom}"],
    "lines": ['model.descriptor={functions: ["Cu 2 Cu 0.3 0 4", "Au 2 Cu 0.1 0 4"], units: angstrom}'],
    "poly": ["model.descriptor.cutoff_function=poly2"],
    "chebyshev": ["model=" + _CHEBYSHEV],
    "third": ["model=" + _CHEBYSHEV, "model.charges={generation: third, passes: 2}"],
    "fourth": ["model=" + _CHEBYSHEV, "model.charges={generation: fourth, passes: 2}"],
    "latent": ["model=" + _CHEBYSHEV, "model.charges={generation: latent}"],
    "cluster": ["model=" + _CLUSTER],
    "nep": ["model=" + _NEP],
    "dispersion": ["model.terms={dispersion: {parameters: {Au: [250.0, 1.7]}}}"],
    "deep": ["model=" + _DEEP],
    "deep residual": ["model=" + _DEEP, "model.descriptor.embedding=[4, 4]"],
    "batches": [
        "training.schedule={kind: epoch, batch_size: 2}", "training.optimizer={kind: ekf, reduction: batch_mean}"
    ],
    "rate": ["training.optimizer.learning_rate=100.0", "training.schedule.virial=true"],
    "blocks": ["training.optimizer={observation_noise: blocks}", "training.schedule={kind: groups, virial: true}"],
    "decay": ["training.optimizer.noise_decay=5.0", "training.optimizer.noise_minimum=0.5"],
    "growth": ["training.optimizer.noise_growth=1.0", "training.optimizer.noise_maximum=4.0"],
    "process": ["training.optimizer.process_noise=0.01"],
    "split": ["training.optimizer={partition: split, block_size: 20}"],
    "adam": ["training.optimizer={kind: adam, learning_rate: 0.01}"],
    "adam decay": ["training.optimizer={kind: adam, learning_rate: 0.01, decay_steps: 2}"],
    "adam epsilon": ["training.optimizer={kind: adam, learning_rate: 0.01, epsilon: 0.01}"],
    "prefactors": [
        "training.optimizer={kind: adam, prefactors: {virial: [1.0, 1.0]}}", "training.schedule.virial=true",
    ],
    "lbfgs": ["training.optimizer={kind: lbfgs}", "training.schedule={kind: full, steps_per_epoch: 5, virial: false}"],
    "pinn": ["training.schedule={kind: pinn}"],
    "adaptive": ["training.schedule={kind: adaptive, force_fraction: 0.5}"],
    "strict": ["training.schedule={kind: adaptive, energy_threshold: 30.0, force_threshold: 30.0}"],
    "groups": ["training.schedule={kind: groups, group_atoms: 2, groups: 1}"],
    "subset": ["training.force_training={kind: subset}", _NO_FORCES],
    "taylor": ["training.force_training={kind: taylor, multiple: 2}", _NO_FORCES],
    "early": [
        "training.early_stopping={patience: 1}", "training.epochs=4",
        "training.optimizer={kind: adam, learning_rate: 0.5}",
    ],
    "unsteady": ["training.epochs=4", "training.optimizer={kind: adam, learning_rate: 0.5}"],
    "steady": [
        "training.early_stopping={patience: 1}", "training.epochs=4", "data.validation_fraction=0.0",
        "training.optimizer={kind: lbfgs}", "training.schedule={kind: full, steps_per_epoch: 3}",
    ],
    "start": ["start={run: earlier}"],
    "report": ["report={md_steps: 10}"],
    "committee": ["committee={members: 2}"],
}  # fmt: skip
"""Overrides of `YAML` that make a training in which settings have an effect."""

_NETWORKS = {
    "network.hidden": "[2]",
    "network.activation": "gaussian",
    "network.per_element": "{Cu: {hidden: [2]}}",
    "network.per_element.*.hidden": ("network.per_element.Cu.hidden", "[2]"),
    "network.per_element.*.activation": ("network.per_element.Cu.activation", "softplus"),
}


def _of(section: str, probes: dict) -> dict:
    """The probes with `section` in front of their keys."""
    return {f"{section}.{key}": value for key, value in probes.items()}


PROBES: dict[str, dict[str, str | tuple[str, str]]] = {
    "plain": {
        "seed": "6", "output": "elsewhere",
        "data.train": "[test.extxyz]", "data.test_fraction": "0.5",
        "data.validation_fraction": "0.0", "data.split": "sequential",
        "data.format": "runner", "data.units": "bohr-hartree", "data.frames": ":5", "data.labels": "{energy: other}",
        "data.reference_energies": "none",
        "data.baseline": "{kind: ase, calculator: lj}",
        **_of("model[acsf]", {
            **_NETWORKS, "elements": "[Au, Cu]", "scaling.kind": "sigma", "scaling.lower": "-0.5",
            "scaling.upper": "0.5", "network.initialisation": "nguyen_widrow", "precondition": "false", "wall": "off",
            "descriptor.cutoff": "4.1", "descriptor.angular_cutoff": "3.5", "descriptor.cutoff_function": "cosine",
            "descriptor.functions": ("model.descriptor", _GIVEN), "descriptor.radial": "3",
            "descriptor.functions_per_element": "2", "descriptor.zetas": "[2]",
            "descriptor.angular_etas": "[0.1]", "descriptor.angular_kind": "wide", "descriptor.minimum_range": "0.1",
        }),
        "training.epochs": "1", "training.min_updates": "9",
        **_of("training.optimizer[ekf]", {
            "initial_covariance": "0.5", "noise.energy": "1e-3", "noise.force": "0.1", "noise.virial": "0.1",
            "learning_rate": "10.0", "observation_noise": "blocks",
            "noise_decay": ("noise_decay=0.5", "noise_minimum=0.1"),
            "noise_growth": "1.0", "process_noise": "0.01", "forgetting": "0.9", "forgetting_rate": "0.9",
            "robust": "false", "forget": "observed", "covariance_limit": "1.0",
            "partition": "layer", "dtype": "float32",
        }),
        "training.schedule[epoch].batch_size": "2", "training.schedule[epoch].energy": "false",
        "training.schedule[epoch].forces": "5", "training.schedule[epoch].virial": "false",
        "training.ridge": "0.5", "training.monitor": "energy_rmse",
        "training.checkpoint.keep": "1", "training.evaluate_every": "2", "training.memory_budget_gb": "1e-7",
        "training.threads": "2", "training.device": "cuda:99", "training.feature_derivatives": "streamed",
    },
    "unsteady": {"training.checkpoint.every": "3"},  # an epoch that is better is written in any case
    "batches": {"training.optimizer[ekf].batch_exponent": "0.0"},
    "folds": {"data.fold": "1", "data.folds": "2"},
    "default sets": {"data.test": "[test.extxyz]", "data.validation": "[test.extxyz]"},
    "groups of frames": {"data.group": "other"},
    "groups of errors": {
        "data.groups": "kind", "training.sampling": "balanced", "training.group_weights": "{a: 4.0}",
        "training.frame_weights": "worth",
    },
    "twice": {"data.suspicious": "ignore"},
    "model baseline": {"data.baseline[model].file": "other"},
    "ase baseline": {
        "data.baseline[ase].calculator": "emt", "data.baseline[ase].arguments": "{epsilon: 0.02}",
    },
    "functions": {
        f"model[acsf].descriptor.functions.*.{name}": (f"model.descriptor.functions.{value[0]}.{name}", value[1])
        for name, value in {
            "kind": (1, "G9"), "center": (1, "Au"), "neighbors": (1, "[Cu, Cu]"), "eta": (0, "0.2"),
            "shift": (0, "1.0"),
            "zeta": (1, "2.0"), "lam": (1, "-1"), "cutoff": (0, "3.9"),
        }.items()
    },
    "file": {"model[acsf].descriptor.functions.file": "other.nn"},
    "lines": {"model[acsf].descriptor.units": "bohr"},
    "poly": {"model[acsf].descriptor.cutoff_inner": "0.5"},
    "chebyshev": _of("model[chebyshev]", {
        **_NETWORKS, "elements": "[Au, Cu]", "scaling.kind": "sigma", "scaling.lower": "-0.5", "scaling.upper": "0.5",
        "network.initialisation": "nguyen_widrow", "precondition": "false", "wall": "off",
        "descriptor.radial_order": "3", "descriptor.radial_cutoff": "4.1", "descriptor.angular_order": "2",
        "descriptor.angular_cutoff": "3.5", "descriptor.cutoff_function": "poly2",
        "descriptor.species_weights": "{Cu: 1.0, Au: 2.0}",
    }),
    "third": _of("model[chebyshev].charges", {
        "generation": "fourth", "network.hidden": "[3]", "network.activation": "gaussian", "widths": "0.5",
        "screening": "2.0", "passes": "3", "refined": "true",
    }),
    "fourth": _of("model[chebyshev].charges", {"hardness": "{Cu: 4.0, Au: 6.0}", "trained_hardness": "false"}),
    "latent": {"model[chebyshev].charges.channels": "2"},
    "dispersion": _of("model[acsf].terms.dispersion", {
        "scale": "0.5", "cutoff": "8.0", "parameters": "{Au: [100.0, 1.7]}",
    }),
    "cluster": _of("model[cluster_expansion]", {
        **_NETWORKS, "elements": "[Au, Cu]", "scaling.kind": "minmax", "scaling.lower": "-0.5", "scaling.upper": "0.5",
        "network.initialisation": "nguyen_widrow", "precondition": "false", "wall": "off", "many_body_weight": "0.7",
        "descriptor.radial_cutoff": "4.1", "descriptor.angular_cutoff": "3.4", "descriptor.cutoff_function": "poly2",
        "descriptor.radial_channels": "3", "descriptor.radial_basis": "4", "descriptor.angular_channels": "2",
        "descriptor.angular_basis": "4", "descriptor.invariants": "[[1, 1], [3, 3]]",
    }),
    "nep": _of("model[nep]", {
        "elements": "[Au, Cu]", "scaling.kind": "minmax", "scaling.lower": "-0.5", "scaling.upper": "0.5",
        "network.hidden": "[4]", "network.initialisation": "nguyen_widrow", "precondition": "false", "wall": "off",
        "many_body_weight": "0.7",
        "descriptor.radial_cutoff": "4.1", "descriptor.angular_cutoff": "3.4", "descriptor.n_max_radial": "2",
        "descriptor.n_max_angular": "1", "descriptor.basis_size_radial": "3", "descriptor.basis_size_angular": "3",
        "descriptor.l_max": "3", "descriptor.four_body": "false", "descriptor.five_body": "true",
    }),
    "deep": _of("model[deep_potential]", {
        **_NETWORKS, "elements": "[Au, Cu]", "wall": "off", "network.timestep": "false",
        "network.initialisation": "xavier", "descriptor.cutoff": "4.1", "descriptor.smooth_from": "0.6",
        "descriptor.cutoff_function": "poly3", "descriptor.embedding": "[5]", "descriptor.axis_neurons": "1",
        "descriptor.type_one_side": "false", "descriptor.activation": "softplus",
    }),
    "deep residual": {"model[deep_potential].descriptor.timestep": "true"},
    "rate": {
        "training.weights.energy": "2.0", "training.weights.force": "2.0", "training.weights.virial": "2.0",
    },
    "blocks": _of("training.optimizer[ekf]", {
        "divide_by_atoms": "true", "reduction": "signed_mean", "prefactors.energy": "2.0", "prefactors.force": "2.0",
        "prefactors.virial": "2.0",
    }),
    "decay": {"training.optimizer[ekf].noise_minimum": "0.1"},
    "growth": {"training.optimizer[ekf].noise_maximum": "2.0"},
    "process": {
        "training.optimizer[ekf].process_noise_decay": "0.1", "training.optimizer[ekf].process_noise_minimum": "0.009",
    },
    "split": {"training.optimizer[ekf].block_size": "10"},
    "adam": _of("training.optimizer[adam]", {
        "learning_rate": "0.02", "final_learning_rate": "0.001", "prefactors": "{}", "gradient_clip": "0.1",
        "betas": "[0.8, 0.99]",
    }) | {"training.weights.per_atom": "square"},
    "adam decay": {
        "training.optimizer[adam].decay_factor": "0.5", "training.optimizer[adam].decay_steps": "1",
    },
    "adam epsilon": {
        "training.optimizer[adam].epsilon": "0.02", "training.optimizer[adam].epsilon_convention": "torch",
    },
    "prefactors": _of("training.optimizer[adam]", {
        "prefactors.energy": "[1.0, 1.0]", "prefactors.force": "[1.0, 1.0]", "prefactors.virial": "[2.0, 1.0]",
    }),
    "lbfgs": {
        "training.optimizer[lbfgs].history": "1", "training.optimizer[lbfgs].max_evaluations": "1",
        **_of("training.schedule[full]", {"energy": "false", "forces": "3", "virial": "true", "steps_per_epoch": "4"}),
    },
    "pinn": {"training.optimizer[ekf].preset": "shao"} | _of("training.schedule[pinn]", {
        "energy_probability": "0.1", "force_labels": "3", "steps_per_epoch": "3",
    }),
    "adaptive": _of("training.schedule[adaptive]", {
        "energy_threshold": "0.9", "force_threshold": "0.2", "energy_group": "2", "force_group": "2",
        "force_fraction": "0.9", "repeat_energy": "true",
    }),
    "strict": {"training.schedule[adaptive].trials": "2"},
    "groups": _of("training.schedule[groups]", {
        "batch_size": "2", "energy": "false", "energy_first": "true", "group_atoms": "1", "groups": "2",
        "reduction": "signed_mean", "virial": "false", "joint_from": "1",
    }),
    "subset": {
        "training.force_training[subset].fraction": "0.5", "training.force_training[subset].select": "error",
    },
    "taylor": _of("training.force_training[taylor]", {
        "strategy": "cartesian", "multiple": "3", "displacement": "0.02", "min_force": "100.0",
    }),
    "early": {"training.early_stopping.patience": "2"},
    "steady": {"training.early_stopping.min_delta": "0.99"},
    "start": {"start.run": "other", "start.epochs": "1", "start.covariance": "false", "start.freeze": "[1]"},
    "report": _of("report", {
        "md_steps": "20", "temperature": "310.0", "pressure": "2.0", "solids": "false", "fisher_batches": "10",
        "other": "earlier",
    }),
    "committee": {"committee.members": "3", "committee.resample": "bootstrap", "committee.processes": "1"},
}  # fmt: skip
"""By training of `BASES`: key, and a value that shows (with the key of the override, where it is another)."""

REFUSED: list[tuple[str, str, str]] = [
    ("plain", "data.fold=1", "fold"),
    ("plain", "training.optimizer={reduction: batch_mean}", "updates have one"),
    ("plain", "training.optimizer={batch_exponent: 0.3}", "batch_exponent has no effect"),
    ("batches", "training.schedule={kind: groups, batch_size: 2, reduction: signed_mean}", "Set one of them to none"),
    ("batches", "training.group_weights={a: 4.0}", "makes one number of many labels"),
    ("given test", "data.folds=2", "folds"),
    ("given test", "data.test_fraction=0.3", "test_fraction has no effect"),
    ("folds", "data.test_fraction=0.3", "test_fraction has no effect"),
    ("plain", "data.validation=[test.extxyz]", "data.validation_fraction has no effect"),
    ("plain", "data.group=file", "go together"),
    ("plain", "training.sampling=balanced", "there are no groups"),
    ("plain", "training.group_weights={a: 4.0}", "there are no groups"),
    ("plain", "training.frame_weights=value", "no training structure has a value"),
    ("plain", "training.frame_weights=kind", "kind is [abc]; expected a number above 0"),
    ("plain", "data.groups=file", "of one group"),
    ("groups of errors", "training.group_weights={a: 4.0, d: 2.0}", "no training structure is of the group 'd'"),
    ("lbfgs", "training.sampling=balanced", "balanced has no effect"),
    ("plain", "model.descriptor.cutoff_inner=0.3", "cutoff_inner has no effect"),
    ("plain", "model.descriptor.units=bohr", "units has no effect"),
    ("functions", "model.descriptor.radial=3", "radial has no effect"),
    ("functions", "model.descriptor.functions_per_element=5", "functions_per_element has no effect"),
    ("functions", "model.descriptor.zetas=[2]", "zetas has no effect"),
    ("functions", "model.descriptor.angular_etas=[0.3]", "angular_etas has no effect"),
    ("functions", "model.descriptor.angular_kind=wide", "angular_kind has no effect"),
    ("functions", "model.descriptor.angular_cutoff=3.0", "angular_cutoff has no effect"),
    ("functions", "model.descriptor.minimum_range=0.1", "minimum_range has no effect"),
    ("functions", "model.descriptor.functions.0.zeta=2", "zeta has no effect"),
    ("functions", "model.descriptor.functions.0.lam=-1", "lam has no effect"),
    ("lines", "model.descriptor.cutoff=5.0", "cutoff has no effect"),
    ("file", "model.descriptor.cutoff=5.0", "cutoff has no effect"),
    ("plain", "model.scaling={kind: center, lower: -2.0}", "lower or upper has no effect"),
    ("plain", "model.scaling={kind: none, upper: 2.0}", "lower or upper has no effect"),
    ("plain", "training.time=10s", "epochs has no effect"),
    ("plain", "training.weights.force=2.0", "weights has no effect"),
    ("rate", "training.optimizer.noise.energy=0.1", "noise"),
    ("blocks", "training.optimizer.noise.energy=0.1", "noise"),
    ("plain", "training.optimizer.noise_minimum=0.5", "noise_minimum"),
    ("plain", "training.optimizer.noise_maximum=5.0", "noise_maximum"),
    ("plain", "training.optimizer.process_noise_decay=0.1", "process_noise_decay"),
    ("plain", "training.optimizer.process_noise_minimum=0.1", "process_noise_minimum"),
    ("plain", "training.optimizer.divide_by_atoms=true", "divide_by_atoms"),
    ("plain", "training.optimizer.prefactors.force=2.0", "prefactors"),
    ("plain", "training.optimizer={forgetting: 1.0, forgetting_rate: 0.9}", "forgetting_rate"),
    ("plain", "training.optimizer={forgetting: 1.0, covariance_limit: 2.0}", "covariance_limit"),
    ("plain", "training.optimizer={forget: observed, covariance_limit: 2.0}", "covariance_limit"),
    ("plain", "training.optimizer={partition: global, block_size: 20}", "block_size"),
    ("prefactors", "training.weights.energy=2.0", "weights has no effect"),
    ("adam", "training.optimizer={kind: adam, final_learning_rate: 1e-5, decay_factor: 0.5}", "decay_factor"),
    ("adaptive", "training.schedule={kind: adaptive, energy_threshold: null, energy_group: 2}", "energy_group"),
    ("adaptive", "training.schedule={kind: adaptive, energy_threshold: null, repeat_energy: true}", "repeat_energy"),
    ("adaptive", "training.schedule={kind: adaptive, force_threshold: null, force_group: 2}", "force_group"),
    ("adaptive", "training.schedule={kind: adaptive, force_threshold: null, force_fraction: 0.2}", "force_fraction"),
    ("subset", "training.schedule.forces=5", "schedule.forces has no effect"),
    ("taylor", "training.schedule.forces=5", "schedule.forces has no effect"),
    ("pinn", "training={schedule: {kind: pinn, force_labels: 3}, force_training: none}", "force_labels has no effect"),
    ("plain", "data.labels={charges: charges}", "data.labels.charges has no effect"),
    ("third", "model.charges.channels=2", "channels has no effect"),
    ("third", "model.charges.hardness={Cu: 4.0, Au: 6.0}", "hardness has no effect"),
    ("third", "model.charges.trained_hardness=false", "trained_hardness has no effect"),
    ("latent", "model.charges.passes=3", "passes has no effect"),
    ("latent", "model.charges.refined=true", "refined has no effect"),
    ("deep", "model.charges={generation: third, refined: false}", "charges change with it"),
    ("deep", "training.feature_derivatives=kept", "feature_derivatives has no effect"),
    ("report", "report={temperature: 400.0}", "temperature has no effect"),
    ("report", "report={pressure: 4.0}", "pressure has no effect"),
    ("start", "model.network.hidden=[4]", "the potential to begin with has model.network.hidden"),
]  # fmt: skip
"""In a training of `BASES`, a setting that would have no effect there, and what is said of it."""

EXCUSED: dict[str, str] = {
    f"data.baseline[d3].{name}": "needs tad-dftd3, which is not always installed; tests/training/test_baseline.py"
    for name in ("s6", "s8", "a1", "a2")
} | {
    "training.time": "depends on the clock; tests/training/test_budget.py",
    "training.prefetch": "changes no number; tests/workflow/test_streaming.py",
}
"""Keys without a probe here, and why."""
