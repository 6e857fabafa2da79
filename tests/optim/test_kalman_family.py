"""The published filters, written out naively with dense matrices, against the one class that has them as settings."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch

from nnpkit.errors import InputError
from nnpkit.optim.covariance import Covariance
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings
from nnpkit.optim.measurement import (
    NO_LABEL,
    Measurement,
    Origin,
    batch_mean,
    reduced_variance,
    signed_mean,
    signed_sum,
)
from nnpkit.optim.partition import Layer, make_partition
from nnpkit.parallel import Ranks

LAYERS = [Layer("a", 9), Layer("b", 30), Layer("c", 4), Layer("d", 6)]
N = 49
BLOCKS = make_partition("reorganized", LAYERS, 16)


def random_measurement(rng: np.random.Generator, m: int, n: int = N) -> Measurement:
    parts = rng.normal(size=m), rng.normal(size=(m, n)), rng.uniform(0.1, 2.0, size=m)
    return Measurement(*map(torch.as_tensor, parts))


def textbook(P, w, residual, H, R, forgetting, q, inside):
    """One step as it is printed: P out of place, dense, zero outside of the blocks."""
    A = np.linalg.inv(H @ P @ H.T + R)
    K = P @ H.T @ A
    return inside * ((P - K @ H @ P) / forgetting) + q * np.eye(len(P)), w + K @ residual, K


def inside_of(partition) -> np.ndarray:
    inside = np.zeros((partition.n_parameters, partition.n_parameters))
    for start, stop, _ in partition.blocks:
        inside[start:stop, start:stop] = 1.0
    return inside


@pytest.mark.parametrize(
    ("kind", "q", "triangles"),
    [("reorganized", 1e-6, True), ("global", 0.0, True), ("reorganized", 0.0, False)],
)
def test_lazy_is_textbook_over_5000_steps(kind, q, triangles):
    partition = make_partition(kind, LAYERS, 16)
    rng = np.random.default_rng(0)
    settings = KalmanSettings(forgetting=0.98, forgetting_rate=0.9987, process_noise=q, lazy_rank=20)
    optimizer = KalmanOptimizer(partition, settings)
    if not triangles:
        optimizer.covariance = Covariance(partition, lazy_rank=20, triangles=False)
    inside, P, w, forgetting = inside_of(partition), np.eye(N), np.zeros(N), 0.98
    weights = torch.zeros(N, dtype=torch.float64)
    for _ in range(5000):
        measurement = random_measurement(rng, int(rng.integers(1, 4)))
        change, _ = optimizer.step(measurement)
        weights += change
        residual, H, noise = (part.numpy() for part in measurement[:3])
        P, w, _ = textbook(P, w, residual, H, np.diag(noise), forgetting, q, inside)
        forgetting = 0.9987 * forgetting + 1.0 - 0.9987
    difference = np.abs(optimizer.covariance.dense().numpy() - P).max()
    assert difference <= 1e-10 * np.abs(P).max()
    assert np.abs(weights.numpy() - w).max() <= 1e-11 * np.abs(w).max()


def test_one_joint_measurement_is_one_matrix_over_all_blocks():
    rng = np.random.default_rng(1)
    optimizer = KalmanOptimizer(BLOCKS, KalmanSettings(initial_covariance=2.0))
    P, inside = 2.0 * np.eye(N), inside_of(BLOCKS)
    for m in (1, 5, 40, 3):
        measurement = random_measurement(rng, m)
        residual, H, noise = (part.numpy() for part in measurement[:3])
        before = P
        P, w, K = textbook(P, np.zeros(N), residual, H, np.diag(noise), 1.0, 0.0, inside)
        change, report = optimizer.step(measurement)
        assert np.allclose(change.numpy(), w, rtol=1e-12, atol=1e-12)
        assert np.allclose(optimizer.covariance.dense().numpy(), P, rtol=1e-12, atol=1e-13)
        A = np.linalg.inv(H @ before @ H.T + np.diag(noise))
        assert report.innovation == pytest.approx(residual @ A @ residual / m, rel=1e-12)
        share = (noise / np.diag(H @ before @ H.T + np.diag(noise))).mean()
        assert report.noise_share == pytest.approx(share, rel=1e-12)
        assert report.gain == pytest.approx(np.linalg.norm(K), rel=1e-12)
        assert report.step == pytest.approx(np.linalg.norm(w), rel=1e-12)
    health = optimizer.health()
    assert health["trace"] == pytest.approx(np.trace(P), rel=1e-12)
    assert health["smallest"] == pytest.approx(np.diag(P).min(), rel=1e-12)
    assert health["largest"] == pytest.approx(np.diag(P).max(), rel=1e-12)


def rlekf_as_printed(P_blocks, slices, w, residual, jacobian, forgetting):
    """Algorithm 2 of Hu et al. (2023), line by line; predictions enter through residual and jacobian."""
    # Lines 1 to 7: predictions that are too large are reflected, then everything is averaged.
    signs = np.where(residual > 0.0, 1.0, -1.0)
    error = np.abs(residual).mean()
    H = (signs[:, None] * jacobian).mean(axis=0)
    # Line 8
    L = len(P_blocks)
    a = 1.0 / (L * forgetting + sum(H[s] @ P @ H[s] for P, s in zip(P_blocks, slices, strict=True)))
    # Lines 9 to 13
    new_blocks, w = [], w.copy()
    for P, s in zip(P_blocks, slices, strict=True):
        K = P @ H[s]
        new_blocks.append((1.0 / forgetting) * (P - a * np.outer(K, K)))
        w[s] += a * K * error
    # Line 14
    return new_blocks, w, forgetting * 0.9987 + 1.0 - 0.9987


def test_algorithm_2_of_hu():
    rng = np.random.default_rng(2)
    optimizer = KalmanOptimizer(BLOCKS, KalmanSettings.rlekf())
    slices = [slice(block.start, block.stop) for block in BLOCKS.blocks]
    P, w, forgetting = [np.eye(block.size) for block in BLOCKS.blocks], np.zeros(N), 0.98
    weights = torch.zeros(N, dtype=torch.float64)
    for step in range(300):
        measurement = random_measurement(rng, 1 if step % 5 == 0 else 18)
        change, _ = optimizer.step(measurement)
        weights += change
        P, w, forgetting = rlekf_as_printed(
            P, slices, w, measurement.residual.numpy(), measurement.jacobian.numpy(), forgetting
        )
    dense = optimizer.covariance.dense().numpy()
    for block, s in zip(P, slices, strict=True):
        assert np.allclose(dense[s, s], block, rtol=1e-10, atol=1e-12 * np.abs(block).max())
    assert np.allclose(weights.numpy(), w, rtol=1e-11, atol=1e-12)
    assert float(optimizer.forgetting) == pytest.approx(forgetting, rel=1e-15)


def test_dividing_before_the_measurement_is_the_same_update():
    """Hu et al., eqs. 5 and following: P / lambda first and R = L, against R = L lambda and P / lambda last."""
    rng = np.random.default_rng(3)
    optimizer = KalmanOptimizer(BLOCKS, KalmanSettings.rlekf(reduction="none"))
    P, w, inside, forgetting = np.eye(N), np.zeros(N), inside_of(BLOCKS), 0.98
    for _ in range(20):
        measurement = random_measurement(rng, 1)
        residual, H, _ = (part.numpy() for part in measurement[:3])
        P, change, _ = textbook(
            P / forgetting, w, residual, H, len(BLOCKS.blocks) * np.eye(1), 1.0, 0.0, inside
        )
        forgetting = 0.9987 * forgetting + 1.0 - 0.9987
        assert np.allclose(optimizer.step(measurement)[0].numpy(), change, rtol=1e-12, atol=1e-14)
    assert np.allclose(optimizer.covariance.dense().numpy(), P, rtol=1e-12, atol=1e-13)


def test_algorithm_2_of_shao():
    """Their error xi is prediction minus label and J its derivative, so the printed sign of K xi is turned."""
    rng = np.random.default_rng(4)
    eta = 1e-2
    optimizer = KalmanOptimizer(N, KalmanSettings.shao())
    P, w, weights = np.eye(N), np.zeros(N), torch.zeros(N, dtype=torch.float64)
    for _ in range(50):
        residual, H, _ = random_measurement(rng, 10)[:3]
        change, _ = optimizer.step(Measurement(residual, H, torch.full_like(residual, 1.0 / eta)))
        weights += change
        xi, J = -residual.numpy(), H.numpy()
        A = np.linalg.inv(J @ P @ J.T + np.eye(10) / eta)
        K = P @ J.T @ A
        P = (np.eye(N) - K @ J) @ P
        w = w - K @ xi
    assert np.allclose(weights.numpy(), w, rtol=1e-12, atol=1e-12)
    assert np.allclose(optimizer.covariance.dense().numpy(), P, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["reorganized", "split"])
def test_one_block_is_the_global_filter(kind):
    layers = LAYERS if kind == "reorganized" else [Layer("all", N)]
    one_block = KalmanOptimizer(make_partition(kind, layers, 0), KalmanSettings.rlekf())
    whole = KalmanOptimizer(N, KalmanSettings.rlekf())
    for seed in range(50):
        changes = [o.step(random_measurement(np.random.default_rng(seed), 3))[0] for o in (one_block, whole)]
        assert torch.equal(*changes)
    assert torch.equal(one_block.covariance.dense(), whole.covariance.dense())


def test_signed_mean():
    measurement = Measurement(
        torch.tensor([2.0, -1.0, 0.0]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]]),
        torch.tensor([3.0, 3.0, 3.0]),
    )
    residual, jacobian, noise, _ = signed_mean(measurement)
    assert torch.allclose(residual, torch.tensor([1.0]))  # mean of |residual|
    assert torch.allclose(jacobian, torch.tensor([[1.0 - 3.0, -1.0 - 3.0]]) / 3.0)
    # Errors of the labels alone: the mean square of the mean of three absolute values
    assert torch.allclose(noise, 3.0 * torch.tensor([2.0 / math.pi + (1.0 - 2.0 / math.pi) / 3.0]))


@pytest.mark.parametrize("sigmas", [[0.7], [0.3] * 18, [1.0, 0.1, 0.1, 2.0]])
def test_noise_of_a_signed_mean_is_what_a_perfect_model_leaves(sigmas):
    """Labels with known errors and a model without: the innovation of the reduced label is 1."""
    sigma = torch.tensor(sigmas, dtype=torch.float64)
    errors = (
        torch.randn(100_000, len(sigma), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        * sigma
    )
    blank = torch.zeros(len(sigma), 1, dtype=torch.float64)
    residuals = torch.stack([signed_mean(Measurement(e, blank, sigma**2)).residual for e in errors[:200]])
    assert torch.allclose(residuals[:, 0], errors[:200].abs().mean(1))
    noise = float(signed_mean(Measurement(errors[0], blank, sigma**2)).noise)
    assert float(errors.abs().mean(1).square().mean()) == pytest.approx(noise, rel=0.02)


def test_signed_sum():
    rng = np.random.default_rng(7)
    for m in (1, 4):
        measurement = random_measurement(rng, m)
        mean, total = signed_mean(measurement), signed_sum(measurement)
        assert torch.allclose(total.residual, np.sqrt(m) * mean.residual, rtol=1e-15)
        assert torch.allclose(total.jacobian, m * mean.jacobian, rtol=1e-15)
        assert torch.allclose(total.noise, m * mean.noise, rtol=1e-15)
    change, _ = KalmanOptimizer(N, KalmanSettings(reduction="signed_sum")).step(measurement)
    assert torch.allclose(change, KalmanOptimizer(N, KalmanSettings()).step(total)[0], rtol=1e-14)


def batch(rng: np.random.Generator) -> Measurement:
    """Three structures: energies of all, 4, 4 and 3 force components, and one row that is no label."""
    parts = []
    for structure, n_forces in ((7, 4), (2, 4), (5, 3)):
        for kind, n in (("energy", 1), ("force", n_forces)):
            own = random_measurement(rng, n)
            size = torch.as_tensor(rng.uniform(size=n))
            parts.append(own._replace(origin=Origin.of(kind, n, float(structure), size, structure)))
    nothing = torch.tensor([NO_LABEL])
    origin = Origin(nothing, torch.ones(1).double(), torch.zeros(1).double(), nothing)
    return Measurement.joined([*parts, random_measurement(rng, 1)._replace(origin=origin)])


def averages(given: Measurement) -> list[list[int]]:
    """Rows that are averaged: the energies, the first forces of all structures, the second, ..."""
    energies, forces = [0, 5, 10], ([1, 2, 3, 4], [6, 7, 8, 9], [11, 12, 13])
    return [energies, *([own[k] for own in forces if k < len(own)] for k in range(4))]


def test_labels_of_a_batch_are_averaged_one_by_one():
    given = batch(np.random.default_rng(11))
    found, n_structures = batch_mean(given)
    assert n_structures == 3
    assert len(found.residual) == 6
    for row, members in enumerate(averages(given)):
        sign = torch.sign(given.residual[members])
        assert float(found.residual[row]) == pytest.approx(
            float(given.residual[members].abs().mean()), rel=1e-14
        )
        mean = (sign[:, None] * given.jacobian[members]).mean(0)
        assert torch.allclose(found.jacobian[row], mean, rtol=1e-13)
        weights = torch.full((len(members),), 1.0 / len(members), dtype=torch.float64)
        noise = reduced_variance(weights, given.noise[members])
        assert float(found.noise[row]) == pytest.approx(float(noise), rel=1e-13)
        worst = members[int(given.residual[members].abs().argmax())]
        assert int(found.origin.structure[row]) == int(given.origin.structure[worst])
        assert int(found.origin.kind[row]) == int(given.origin.kind[members[0]])
        for name in ("unit", "size"):
            expected = float(getattr(given.origin, name)[members].mean())
            assert float(getattr(found.origin, name)[row]) == pytest.approx(expected, rel=1e-14)
    assert torch.equal(found.jacobian[-1], given.jacobian[-1])
    assert float(found.residual[-1]) == float(given.residual[-1])
    with pytest.raises(ValueError, match="not known"):
        batch_mean(given._replace(origin=None))


@pytest.mark.parametrize("exponent", [0.5, 0.0])
@pytest.mark.parametrize("partition", ["global", "reorganized"])
def test_fekf_is_its_algorithm(exponent, partition):
    """Written out with dense matrices: means of rows, one Kalman step, which is longer by a power of the batch."""
    rng = np.random.default_rng(12)
    settings = KalmanSettings(
        reduction="batch_mean", batch_exponent=exponent, forgetting=0.97, process_noise=1e-3, lazy_rank=4
    )
    parts = make_partition(partition, LAYERS, 16)
    optimizer, inside = KalmanOptimizer(parts, settings), inside_of(parts)
    P, w, found = np.eye(N), np.zeros(N), np.zeros(N)
    for _ in range(6):
        given, forgetting = batch(rng), float(optimizer.forgetting)
        xi, H, R = (t.numpy() for t in given[:3])
        sign = np.where(xi > 0, 1.0, -1.0)
        rows = averages(given)
        mean_xi = np.array([np.abs(xi[m]).mean() for m in rows] + [xi[-1]])
        mean_H = np.array([(sign[m, None] * H[m]).mean(0) for m in rows] + [H[-1]])
        sigma = [np.sqrt(R[m]) for m in rows]
        mean_R = [2 / np.pi * s.mean() ** 2 + (1 - 2 / np.pi) * (s**2).sum() / len(s) ** 2 for s in sigma]
        P, w_new, _ = textbook(
            P,
            np.zeros(N),
            mean_xi,
            mean_H,
            np.diag([*mean_R, R[-1]]),
            forgetting,
            optimizer.process_noise,
            inside,
        )
        w += 3**exponent * w_new
        change, report = optimizer.step(given)
        found += change.numpy()
        assert report.step == pytest.approx(float(np.linalg.norm(change)), rel=1e-12)
    assert np.allclose(found, w, rtol=1e-10, atol=1e-12)


def frozen_pair(settings: KalmanSettings, triangles: bool = True):
    """A filter with frozen weights, one that has the others only, and which these are; block b is frozen as a whole."""
    active = torch.from_numpy(np.random.default_rng(8).uniform(size=N) < 0.6)
    partition = make_partition("layer", LAYERS)
    active[partition.blocks[1].start : partition.blocks[1].stop] = False
    sizes = [(b.name, int(active[b.start : b.stop].sum())) for b in partition.blocks]
    whole, part = (
        KalmanOptimizer(partition, settings),
        KalmanOptimizer(make_partition("layer", sizes), settings),
    )
    if not triangles:
        whole.covariance = Covariance(partition, lazy_rank=settings.lazy_rank, triangles=False)
    whole.freeze(active)
    return whole, part, active


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("triangles", [True, False])
def test_frozen_weights_are_no_part_of_the_filter(dtype, triangles):
    """Steps, reports, health and variances of predictions are those of a filter that has the active weights only."""
    if dtype == "float32" and not triangles:
        pytest.skip("one of them suffices")
    settings = KalmanSettings.rlekf(reduction="none", process_noise=1e-3, lazy_rank=5, dtype=dtype)
    whole, part, active = frozen_pair(settings, triangles)
    rng, rel = np.random.default_rng(9), 1e-10 if dtype == "float64" else 1e-3
    assert len(part.partition.blocks) == 3
    for _ in range(150):
        measurement = random_measurement(rng, 2)
        change, report = whole.step(measurement)
        less = measurement._replace(jacobian=measurement.jacobian[:, active])
        expected, own = part.step(less)
        assert not change[~active].any()
        assert torch.allclose(change[active], expected, rtol=rel, atol=rel * float(expected.abs().max()))
        assert report == pytest.approx(own, rel=rel)
    health = whole.health()
    drift, other_drift = (optimizer.health().pop("drift", None) for optimizer in (whole, part))
    assert {k: v for k, v in health.items() if k != "drift"} == pytest.approx(
        {k: v for k, v in part.health().items() if k != "drift"}, rel=rel
    )
    assert drift == other_drift or max(drift, other_drift) < 0.01
    dense = whole.covariance.dense()
    assert not dense[~active].any()
    assert not dense[:, ~active].any()
    h = torch.as_tensor(rng.normal(size=(3, N)))
    variance = (whole.covariance.product(h) * h).sum(1)
    h = h[:, active]
    assert torch.allclose(variance, (part.covariance.product(h) * h).sum(1), rtol=rel)


def test_what_is_frozen_survives_a_restart_and_can_be_released():
    settings = KalmanSettings.rlekf(reduction="none", process_noise=1e-3, initial_covariance=0.7)
    whole, _, active = frozen_pair(settings)
    measurements = [random_measurement(np.random.default_rng(seed), 2) for seed in range(50)]
    for measurement in measurements[:40]:
        whole.step(measurement)
    state = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    restored = KalmanOptimizer(whole.partition, settings)
    restored.load_state_dict(state)
    for measurement in measurements[40:]:
        assert torch.equal(whole.step(measurement)[0], restored.step(measurement)[0])
    before = restored.covariance.dense()
    restored.covariance.freeze(None)
    after = restored.covariance.dense()
    assert torch.allclose(
        after.diagonal()[~active], torch.full((int((~active).sum()),), 0.7, dtype=torch.float64)
    )
    after[~active, ~active] = 0.0
    assert torch.allclose(after, before, rtol=1e-12, atol=1e-15)
    assert restored.step(measurements[0])[0][~active].all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_restart_is_bit_identical_between_two_folds(dtype):
    def run(optimizer, seeds):
        return [optimizer.step(random_measurement(np.random.default_rng(seed), 2))[0] for seed in seeds]

    settings = KalmanSettings.rlekf(dtype=dtype, process_noise=1e-7)
    whole, first, second = (KalmanOptimizer(BLOCKS, settings) for _ in range(3))
    expected = run(whole, range(120))
    run(first, range(70))
    state = first.state_dict()
    assert 0 < len(state["block-00000/pending"]) < settings.lazy_rank
    second.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    assert (second.drift, second._variance) == (first.drift, first._variance)
    assert math.isfinite(second._variance) == (dtype == "float32")  # a window of the drift is open
    assert all(torch.equal(a, b) for a, b in zip(run(second, range(70, 120)), expected[70:], strict=True))
    assert second.health() == whole.health()


def test_processes_that_share_the_blocks_agree_with_one():
    settings = KalmanSettings.rlekf(reduction="none")
    measurements = [random_measurement(np.random.default_rng(seed), 4) for seed in range(30)]
    whole = KalmanOptimizer(BLOCKS, settings)
    expected = [whole.step(measurement)[0] for measurement in measurements]
    barrier, shared, results = threading.Barrier(3), {}, {}

    def work(rank: int) -> None:
        class Threads(Ranks):
            def __init__(self) -> None:
                self.rank, self.size = rank, 3

            def add(self, tensor: torch.Tensor) -> torch.Tensor:
                barrier.wait()
                shared[rank] = tensor
                barrier.wait()
                return sum(shared[r] for r in range(3))

            def any(self, flag: bool) -> bool:
                return bool(self.add(torch.tensor(float(flag))) > 0.0)

        optimizer = KalmanOptimizer(BLOCKS, settings, ranks=Threads())
        results[rank] = [optimizer.step(measurement) for measurement in measurements], optimizer.health()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for steps, health in results.values():
        for (change, _), reference in zip(steps, expected, strict=True):
            assert torch.allclose(change, reference, rtol=1e-12, atol=1e-14)
        assert health == pytest.approx(whole.health(), rel=1e-12)


def test_bad_settings_are_named():
    for name, value in (
        ("dtype", "float16"), ("reduction", "mean"), ("observation_noise", "L"), ("forgetting", 1.1), ("lazy_rank", 0),
        ("process_noise", -1.0), ("initial_covariance", 0.0),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"training.optimizer.{name}: is {value!r}"):
            KalmanSettings(**{name: value})


def test_what_is_not_finite_is_said():
    measurement = random_measurement(np.random.default_rng(0), 2, 3)
    for broken in (
        measurement._replace(residual=torch.tensor([0.0, torch.nan], dtype=torch.float64)),
        measurement._replace(jacobian=measurement.jacobian * torch.inf),
    ):
        with pytest.raises(InputError, match="not finite"):
            KalmanOptimizer(3, KalmanSettings()).step(broken)


def test_negative_noise_is_refused():
    measurement = random_measurement(np.random.default_rng(0), 2, 3)
    broken = measurement._replace(noise=torch.tensor([1.0, -0.5], dtype=torch.float64))
    with pytest.raises(InputError, match=r"observation noise has a variance of -0\.5"):
        KalmanOptimizer(3, KalmanSettings()).step(broken)


def test_too_large_is_refused():
    with pytest.raises(InputError, match=r"needs 8\d\d\d\.\d\d GB"):
        KalmanOptimizer(10**6, KalmanSettings(), available=10**9)


def test_noise_grows_with_the_updates():
    growing = KalmanOptimizer(5, KalmanSettings(noise_growth=0.5, noise_maximum=2.0))
    given = KalmanOptimizer(5, KalmanSettings())
    generator = torch.Generator().manual_seed(0)
    for factor in (1.0, 1.5, 2.0, 2.0):
        residual, jacobian = (
            torch.randn(n, generator=generator, dtype=torch.float64) for n in ((2,), (2, 5))
        )
        noise = torch.tensor([0.1, 0.3], dtype=torch.float64)
        change, _ = growing.step(Measurement(residual, jacobian, noise))
        expected, _ = given.step(Measurement(residual, jacobian, factor * noise))
        assert torch.equal(change, expected)
