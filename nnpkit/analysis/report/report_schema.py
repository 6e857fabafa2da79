"""What the JSON beside a validation report holds; ``nnpkit schema --report`` prints it as a JSON schema."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FORMAT_VERSION", "ReportData"]

FORMAT_VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Status(_Part):
    """Whether the run was complete when the report was written."""

    complete: bool = Field(description="The training ended, and the potential is that of its best epoch.")
    epochs_done: int | None = Field(None, description="Epochs trained.")
    epochs_planned: int | None = Field(None, description="Epochs asked for.")
    best_epoch: int | None = Field(None, description="Epoch of the potential.")
    ended: str | None = Field(None, description="What ended the training.")


class GroupErrors(_Part):
    """Errors of some structures; null where there are no labels."""

    n_structures: int
    n_atoms: int
    energy_rmse: float | None = Field(description="eV/atom.")
    energy_mae: float | None = Field(description="eV/atom; the mean absolute deviation.")
    force_rmse: float | None = Field(description="eV/Å, over components.")
    force_mae: float | None = Field(description="eV/Å, over components.")
    force_vector_rmse: float | None = Field(description="eV/Å, over vectors.")
    stress_rmse: float | None = Field(description="GPa, over the nine components.")


class Errors(GroupErrors):
    """Errors of one part of the data, and of its groups."""

    energy_max: float | None = Field(description="eV/atom.")
    force_max: float | None = Field(description="eV/Å, length of the largest error vector.")
    groups: dict[str, GroupErrors] = Field(
        default_factory=dict, description="By group of structures, where there are groups."
    )


class ForceErrors(_Part):
    """Errors of magnitude and direction of forces."""

    n_atoms: int
    force_mae: float | None = Field(description="eV/Å, over components.")
    magnitude_mae: float | None = Field(description="eV/Å.")
    magnitude_rmse: float | None = Field(description="eV/Å.")
    direction_mean: float | None = Field(description="Degrees.")
    direction_median: float | None = Field(description="Degrees.")
    direction_median_large: float | None = Field(
        description="Degrees; atoms with more than the median force."
    )


class Outlier(_Part):
    """A structure with one of the largest errors."""

    structure: str
    part: str = Field(description="train, validation or test.")
    error: float = Field(description="eV/atom, or of the worst atom in eV/Å.")
    ratio: float = Field(description="To the root mean square of its part.")
    atom: int | None = Field(description="Index of the worst atom; null for energies.")


class Feature(_Part):
    """A feature outside the range of the training data."""

    element: str
    feature: str
    atoms: int
    structures: int
    largest: float = Field(description="Distance from the range in units of its width.")
    structure: str = Field(description="Where that is.")


class Extrapolation(_Part):
    """Extrapolation of one part of the data."""

    part: str
    structures: int = Field(description="Structures looked at.")
    extrapolating: int = Field(description="Of them, with a feature outside of its range.")
    atoms: int = Field(description="Atoms with such a feature.")
    features: list[Feature]


class Contradiction(_Part):
    """Errors of two potentials trained independently."""

    other: str
    part: str
    kind: Literal["energy", "force"]
    correlation: float | None = Field(description="Pearson correlation of the errors.")
    factor: float = Field(description="Errors are large beyond this multiple of each one's RMSE.")
    structures: list[str] = Field(description="Large errors of both: look at these data.")


class Calibration(_Part):
    """How the disagreement of a committee goes with its errors."""

    members: int
    spearman_atoms: float | None
    spearman_energy: float | None
    rms_error: float = Field(description="eV/Å, of the forces on atoms.")
    rms_disagreement: float = Field(description="eV/Å.")


class Fisher(_Part):
    """Eigenvalues of the Fisher information matrix, see `nnpkit.analysis.fisher`."""

    n_batches: int
    n_weights: int
    n_resolved: int
    trace: float
    largest: float
    log10_median: float
    log10_mean: float
    log10_peak: float
    effective_rank: float


class Simulation(_Part):
    """A molecular dynamics run of the potential."""

    ensemble: str
    structure: str = Field(description="Where it began.")
    steps: int
    unstable: str | None = Field(description="What went wrong; null for nothing.")
    outside: str | None = Field(
        None,
        description="That the run left the range of the training data; null if it did not, or nobody knows.",
    )
    summary: dict[str, Any] = Field(description="As summary.json of nnpkit md.")
    rdf: dict[str, list[float]] | None = Field(
        None, description="r (Å), and g and coordination of every pair."
    )


class Crystal(_Part):
    """Properties of a crystal."""

    structure: str
    volume: float = Field(description="Å³/atom at the minimum of the energy.")
    energy: float = Field(description="eV/atom there.")
    bulk_modulus: float = Field(description="GPa, from the equation of state.")
    bulk_derivative: float
    volumes: list[float]
    energies: list[float]
    elastic: list[list[float]] | None = Field(None, description="6 x 6, GPa, Voigt order xx yy zz yz xz xy.")
    shear_modulus: float | None = Field(None, description="GPa, Voigt average.")
    elastically_stable: bool | None = None
    lowest_phonon: float | None = Field(
        None, description="THz, imaginary ones negative; null without phonopy."
    )


class ReportData(_Part):
    """A validation report."""

    format: Literal["nnpkit-report"] = "nnpkit-report"
    format_version: Literal[1] = FORMAT_VERSION
    created: str = Field(description="ISO 8601, UTC.")
    run: str = Field(description="Name of the run's folder.")
    status: Status
    notes: list[str] = Field(default_factory=list, description="What is missing, and why.")
    versions: dict[str, str] = Field(default_factory=dict)
    model: dict[str, Any] | None = Field(None, description="Model card: the metadata of the potential.")
    training: dict[str, Any] | None = Field(None, description="Settings of the run.")
    data: dict[str, Any] | None = Field(None, description="Data card: statistics of every part of the data.")
    curves: list[dict[str, Any]] = Field(
        default_factory=list, description="Epochs as in metrics.jsonl; of a committee its first member's."
    )
    errors: dict[str, Errors] = Field(default_factory=dict, description="By part of the data.")
    force_errors: dict[str, ForceErrors] = Field(default_factory=dict, description="By part of the data.")
    energy_outliers: list[Outlier] = Field(default_factory=list)
    force_outliers: list[Outlier] = Field(default_factory=list)
    extrapolation: list[Extrapolation] = Field(default_factory=list)
    contradictions: list[Contradiction] = Field(default_factory=list)
    calibration: Calibration | None = None
    fisher: Fisher | None = None
    simulations: list[Simulation] = Field(default_factory=list)
    crystals: list[Crystal] = Field(default_factory=list)
    seconds: float = Field(0.0, description="Time the report took.")
