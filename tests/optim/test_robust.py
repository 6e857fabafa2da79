"""Outliers, noise that follows the errors, and forgetting that makes nothing uncertain."""

from __future__ import annotations

import math

import pytest
import torch

from nnpkit.errors import DivergedError
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings
from nnpkit.optim.measurement import Measurement, Origin
from nnpkit.optim.robust import RobustNoise, RobustSettings

N = 6


def filter_of(robust: bool, **settings) -> KalmanOptimizer:
    return KalmanOptimizer(N, KalmanSettings(**settings), robust=RobustNoise(40) if robust else None)


def forces(weights, truth, generator, aimed=0.1, sigma=0.1, slope=0.0, structure=0, rows=6) -> Measurement:
    """Rows of a linear model whose labels have a noise of ``sigma^2 + (slope * label)^2``."""
    jacobian = torch.randn(rows, N, generator=generator, dtype=torch.float64)
    labels = jacobian @ truth
    noise = torch.randn(rows, generator=generator, dtype=torch.float64)
    given = labels + noise * (sigma**2 + (slope * labels) ** 2).sqrt()
    origin = Origin.of("force", rows, 1.0, labels.abs(), structure)
    return Measurement(given - jacobian @ weights, jacobian, torch.full_like(labels, aimed**2), origin)


def learn(optimizer: KalmanOptimizer, updates: int, **noise) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    truth = torch.randn(N, generator=generator, dtype=torch.float64)
    weights = torch.zeros(N, dtype=torch.float64)
    for number in range(updates):
        change, _ = optimizer.step(forces(weights, truth, generator, structure=number % 40, **noise))
        weights = weights + change
    return weights, truth


def wrong_by(error, weights, truth, structure=0, seed=4) -> Measurement:
    some = forces(weights, truth, torch.Generator().manual_seed(seed), structure=structure)
    return some._replace(residual=some.residual + error)


def test_an_outlier_moves_the_weights_by_a_bounded_step_and_a_repeated_one_not_at_all():
    optimizer, plain = filter_of(True), filter_of(False)
    (weights, truth), _ = learn(optimizer, 100), learn(plain, 100)
    steps = [float(optimizer.step(wrong_by(1e3, weights, truth))[0].norm()) for _ in range(5)]
    without = float(plain.step(wrong_by(1e3, weights, truth))[0].norm())
    assert steps[0] < 0.05 * without
    assert all(step < 1e-3 for step in steps[3:])
    larger, same = filter_of(True), filter_of(True)
    for filter_, error in ((larger, 1e5), (same, 1e3)):
        learn(filter_, 100)
        filter_.step(wrong_by(error, weights, truth))
    assert torch.allclose(larger.covariance.diagonal(), same.covariance.diagonal(), rtol=0.2)


def test_what_is_no_outlier_keeps_its_noise():
    robust, generator = RobustNoise(1), torch.Generator().manual_seed(2)
    residual = 0.1 * torch.randn(6, generator=generator, dtype=torch.float64)
    expected, given = torch.full((6,), 0.3, dtype=torch.float64), torch.full((6,), 0.01, dtype=torch.float64)
    origin = Origin.of("force", 6, 1.0, torch.ones(6), 0)
    noise = robust.variance(given, origin)
    assert torch.allclose(robust.observed(residual, expected, given, origin), noise, rtol=1e-12)
    far = residual + 1e3
    total = robust.observed(far, expected, given, origin) + expected
    assert bool((total > 1e3 * noise).all())  # the variance of the innovation is what grows


def test_many_outliers_are_a_poor_model_and_go_on_to_teach():
    optimizer = filter_of(True)
    weights, truth = learn(optimizer, 100)
    robust = optimizer.robust
    robust.record[:, 1, 1] = 0.5 * robust.record[:, 1, 0]
    robust.record[0, 1, 1] = 5.0
    robust.load_state_dict(robust.state_dict())  # which counts what all structures have
    many = float(optimizer.step(wrong_by(1e3, weights, truth))[0].norm())
    robust.record[1:, 1, 1] = 0.0
    robust.load_state_dict(robust.state_dict())
    few = float(optimizer.step(wrong_by(1e3, weights, truth, seed=5))[0].norm())
    assert many > 10.0 * few


def test_the_first_updates_with_a_structure_are_full_steps_unless_its_labels_are_gross():
    ordinary = torch.full((3,), 2.0, dtype=torch.float64)
    optimizer = KalmanOptimizer(N, KalmanSettings(), robust=RobustNoise(41, ordinary=ordinary))
    weights, truth = learn(optimizer, 400)
    new = wrong_by(20.0, weights, truth, structure=40)
    gross = new._replace(origin=new.origin._replace(size=torch.full((6,), 61.0, dtype=torch.float64)))
    optimizer.robust.slope.zero_()  # so that the size of the labels matters for this alone
    state = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    steps = []
    for some in (new, gross):
        optimizer.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
        steps.append(float(optimizer.step(some)[0].norm()))
        assert optimizer.robust.record[40, 1, 1] == float(some is gross)
    assert steps[0] > 10.0 * steps[1]
    optimizer.load_state_dict(state)
    for _ in range(5):
        optimizer.step(new)
    assert optimizer.robust.record[40, 1, 1] == 1.0  # the fifth


def test_energies_are_not_disbelieved_much_more_than_forces():
    optimizer = filter_of(True)
    generator = torch.Generator().manual_seed(3)
    truth, weights = torch.ones(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    for number in range(300):
        some = forces(weights, truth, generator, aimed=0.1, sigma=0.2, structure=number % 40)
        energy = forces(weights, truth, generator, aimed=0.1, sigma=5.0, structure=number % 40, rows=1)
        energy = energy._replace(origin=energy.origin._replace(kind=torch.zeros(1, dtype=torch.int64)))
        weights = weights + optimizer.step(Measurement.joined([some, energy]))[0]
    energy, force, _ = optimizer.robust.scale.tolist()
    assert energy == pytest.approx(4.0 * force)
    assert force < 10.0


def test_the_noise_follows_errors_that_are_larger_than_was_aimed_at():
    robust = RobustNoise(40, RobustSettings(slope_maximum=(1.0, 1.0, 1.0)))
    optimizer = KalmanOptimizer(N, KalmanSettings(), robust=robust)
    learn(optimizer, 3000, aimed=0.05, sigma=0.3, slope=0.2)
    assert 0.05 * math.sqrt(float(optimizer.robust.scale[1])) == pytest.approx(0.3, rel=0.15)
    assert math.sqrt(float(optimizer.robust.slope[1])) == pytest.approx(0.2, rel=0.25)
    limited = KalmanOptimizer(N, KalmanSettings(), robust=RobustNoise(40, RobustSettings(start=1.0)))
    learn(limited, 200, aimed=0.05, sigma=0.05, slope=1.0)
    assert math.sqrt(float(limited.robust.slope[1])) == pytest.approx(0.15)


def test_the_noise_is_what_was_aimed_at_where_that_is_reached():
    optimizer = filter_of(True)
    learn(optimizer, 1000, aimed=0.1, sigma=0.1)
    assert float(optimizer.robust.scale[1]) < 1.15
    assert math.sqrt(float(optimizer.robust.slope[1])) < 0.1


def test_structures_with_outliers_are_counted():
    optimizer = filter_of(True)
    weights, truth = learn(optimizer, 100)
    before = optimizer.robust.record[7, 1].clone()
    optimizer.step(wrong_by(50.0, weights, truth, structure=7))
    times, outlying, error = (optimizer.robust.record[7, 1] - before).tolist()
    assert (times, outlying) == (1.0, 1.0)
    assert error == pytest.approx(50.0, rel=0.1)
    assert float(optimizer.robust.record[:, 1, 1].sum()) - outlying <= 5.0  # of the first hundred hardly any


def test_forgetting_what_is_observed_makes_nothing_uncertain():
    kinds = {
        forget: filter_of(False, forgetting=0.9, forgetting_rate=1.0, forget=forget)
        for forget in ("all", "observed")
    }
    kinds["never"] = filter_of(False)
    generator = torch.Generator().manual_seed(5)
    for _ in range(300):
        jacobian = torch.randn(2, N, generator=generator, dtype=torch.float64)
        jacobian[:, 3:] = 0.0
        one = torch.ones(2, dtype=torch.float64)
        for optimizer in kinds.values():
            optimizer.step(Measurement(one, jacobian, one))
    assert float(kinds["all"].covariance.diagonal()[3:].min()) > 1e10
    observed = kinds["observed"].covariance
    assert torch.allclose(observed.diagonal()[3:], torch.ones(3, dtype=torch.float64), atol=1e-12)
    assert float(torch.linalg.eigvalsh(observed.dense()).min()) > 0.0
    assert bool((observed.diagonal()[:3] > 2.0 * kinds["never"].covariance.diagonal()[:3]).all())


def test_one_weight_is_forgotten_by_the_closed_form():
    settings = KalmanSettings(initial_covariance=2.0, forgetting=0.8, forgetting_rate=1.0, forget="observed")
    optimizer = KalmanOptimizer(1, settings)
    one, variance, expected = torch.ones(1, dtype=torch.float64), 0.3, 2.0
    for _ in range(40):
        change, _ = optimizer.step(Measurement(one, 1.5 * one[None], variance * one))
        gain = expected / 0.8 * 1.5 / (1.5**2 * expected / 0.8 + variance)
        assert float(change) == pytest.approx(gain, rel=1e-12)
        expected = min(expected, 1.0 / (0.8 / expected + 1.5**2 / variance))
        assert float(optimizer.covariance.diagonal()) == pytest.approx(expected, rel=1e-10)


def test_without_forgetting_both_kinds_are_the_same():
    both = [filter_of(False, forget=forget) for forget in ("all", "observed")]
    (first, _), (second, _) = (learn(optimizer, 50) for optimizer in both)
    assert torch.allclose(first, second, rtol=1e-10)
    assert torch.allclose(both[0].covariance.dense(), both[1].covariance.dense(), rtol=1e-8, atol=1e-14)


def test_a_retreat_restores_and_believes_less():
    optimizer = filter_of(True, forgetting=0.98)
    learn(optimizer, 20)
    good = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    covariance = optimizer.covariance.dense()
    learn(optimizer, 20)
    optimizer.retreat(good)
    assert torch.equal(optimizer.covariance.dense(), covariance)
    assert (optimizer.caution, optimizer.updates) == (4.0, 40)
    assert float(optimizer.forgetting) == pytest.approx((1.0 + float(good["forgetting"])) / 2.0, rel=1e-14)
    optimizer.retreat(None)
    assert torch.equal(optimizer.covariance.dense(), torch.eye(N, dtype=torch.float64))
    assert optimizer.caution == 16.0
    again = filter_of(True, forgetting=0.98)
    again.load_state_dict(optimizer.state_dict())
    assert again.caution == 16.0


def test_the_third_time_a_state_is_not_trusted_any_more():
    optimizer = filter_of(True, forgetting=0.98, initial_covariance=2.0)
    learn(optimizer, 20)
    good = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    optimizer.retreat(good)
    assert optimizer.caution == 4.0
    cautions, variances, forgetting = [], [], []
    for _ in range(3):
        learn(optimizer, 5)
        optimizer.retreat(good)
        cautions.append(optimizer.caution)
        forgetting.append(float(optimizer.forgetting))
        variances.append(optimizer.covariance.dense())
        assert torch.equal(optimizer.robust.scale, good["robust.scale"])
    whole = torch.eye(N, dtype=torch.float64) * 2.0
    for factor, variance in zip((16.0, 256.0, 4096.0), variances, strict=True):
        assert torch.allclose(variance, whole / factor, rtol=1e-12)
    assert cautions == [16.0] * 3
    assert forgetting == sorted(forgetting)
    better = {**good, "updates": torch.tensor(25)}
    optimizer.retreat(better)
    assert torch.equal(optimizer.covariance.diagonal(), _restored(better).covariance.diagonal())


def _restored(state) -> KalmanOptimizer:
    optimizer = filter_of(True, forgetting=0.98, initial_covariance=2.0)
    optimizer.load_state_dict(state)
    return optimizer


def test_no_weight_that_nothing_is_said_of_becomes_less_certain_than_the_limit():
    generator = torch.Generator().manual_seed(3)
    limited, free = (
        filter_of(False, forgetting=0.97, forgetting_rate=1.0, covariance_limit=limit)
        for limit in (3.0, None)
    )
    for optimizer in (limited, free):
        generator.manual_seed(3)
        weights, truth = torch.zeros(N, dtype=torch.float64), torch.ones(N, dtype=torch.float64)
        for _ in range(400):
            some = forces(weights, truth, generator)
            some.jacobian[:, 4:] = 0.0
            weights = weights + optimizer.step(some)[0]
    largest = [float(optimizer.covariance.diagonal().max()) for optimizer in (limited, free)]
    assert largest[0] == pytest.approx(3.0, rel=1e-12)
    assert largest[1] > 1e4
    own = [optimizer.covariance.dense()[:4, :4] for optimizer in (limited, free)]
    assert torch.allclose(*own, rtol=1e-10, atol=1e-14), "what is observed is forgotten as before"


def test_what_the_first_updates_make_of_the_first_covariance_is_the_unit_of_its_limit():
    optimizer = filter_of(True, initial_covariance=1e-6, forgetting=0.98, covariance_limit=1.0)
    learn(optimizer, 20, sigma=0.01)
    assert optimizer.prior > 1e-5
    again = filter_of(True, initial_covariance=1e-6, forgetting=0.98, covariance_limit=1.0)
    again.load_state_dict({name: tensor.clone() for name, tensor in optimizer.state_dict().items()})
    assert again.prior == optimizer.prior


def test_a_run_goes_on_from_its_state_bit_by_bit():
    optimizer, again = (filter_of(True, forgetting=0.98, forget="observed") for _ in range(2))
    learn(optimizer, 30, sigma=0.5)
    again.load_state_dict({name: tensor.clone() for name, tensor in optimizer.state_dict().items()})
    assert torch.equal(learn(optimizer, 30)[0], learn(again, 30)[0])
    assert torch.equal(optimizer.robust.scale, again.robust.scale)


def test_a_residual_that_is_not_finite_is_a_divergence():
    for forget in ("all", "observed"):
        optimizer = filter_of(False, forget=forget)
        wrong = torch.full((1,), torch.nan, dtype=torch.float64)
        one = torch.ones(1, dtype=torch.float64)
        with pytest.raises(DivergedError, match="not finite"):
            optimizer.step(Measurement(wrong, torch.ones(1, N, dtype=torch.float64), one))


def test_a_covariance_that_is_far_too_small_is_found_out_and_not_taken_for_noise():
    optimizer = filter_of(True, initial_covariance=1e-6)
    weights, truth = learn(optimizer, 60)
    assert float((weights - truth).norm()) < 0.2 * float(truth.norm())
    assert float(optimizer.robust.scale[1]) < 100.0
    later = optimizer.robust.updates
    learn(optimizer, 5)
    assert optimizer.robust.updates == later  # only in the beginning


def grouped(sigmas, rounds, generator, groups=None) -> KalmanOptimizer:
    """A filter after updates whose structure k, in turn, has labels with a noise of sigmas[k]."""
    robust = RobustNoise(len(sigmas), groups=groups)
    optimizer = KalmanOptimizer(N, KalmanSettings(), robust=robust)
    truth = torch.randn(N, generator=generator, dtype=torch.float64)
    weights = torch.zeros(N, dtype=torch.float64)
    for _ in range(rounds):
        for structure, sigma in enumerate(sigmas):
            some = forces(weights, truth, generator, aimed=0.05, sigma=sigma, structure=structure)
            weights = weights + optimizer.step(some)[0]
    return optimizer


def test_a_group_has_the_noise_of_its_own_errors():
    """Exact labels of one group and poor ones of another: pooled, both would be believed alike."""
    optimizer = grouped([0.05, 0.5], 800, torch.Generator().manual_seed(5), ["clean", "noisy"])
    robust = optimizer.robust
    own = dict(zip(robust.names, robust.own[:, 1, 0].sqrt().tolist(), strict=True))
    assert 0.05 * own["noisy"] == pytest.approx(0.5, rel=0.25)
    assert 0.05 * own["clean"] < 0.1
    origin = Origin.joined([Origin.of("force", 1, 1.0, torch.zeros(1), k) for k in range(2)])
    clean, noisy = robust.variance(torch.full((2,), 0.05**2, dtype=torch.float64), origin).sqrt().tolist()
    assert noisy > 4.0 * clean


def test_a_group_that_is_learnt_worst_is_not_given_up():
    """With many good labels and a few poor ones the pooled noise is small; that of the few is at most twice it."""
    robust = grouped(
        [0.05] * 9 + [2.0], 80, torch.Generator().manual_seed(5), ["clean"] * 9 + ["noisy"]
    ).robust
    noisy = robust.own[robust.names.index("noisy"), 1, 0]
    assert float(noisy) == pytest.approx(2.0 * float(robust.scale[1]), rel=0.1)


def test_a_group_that_was_hardly_seen_has_the_noise_of_all():
    generator = torch.Generator().manual_seed(5)
    optimizer = grouped([0.3, 0.3], 600, generator, ["seen", "rare"])
    robust = optimizer.robust
    robust.own[robust.names.index("rare"), 1, 2] = robust.settings.few - 1
    robust.own[robust.names.index("rare"), 1, 0] = 1e4
    origin = Origin.of("force", 1, 1.0, torch.zeros(1), 1)
    given = torch.full((1,), 0.05**2, dtype=torch.float64)
    assert float(robust.variance(given, origin)) == pytest.approx(float(robust.scale[1]) * 0.05**2)


def test_estimates_of_groups_are_kept_by_their_names():
    robust = grouped([0.05, 0.5], 200, torch.Generator().manual_seed(5), ["b", "a"]).robust
    state = {name: value.clone() for name, value in robust.state_dict().items()}
    same, other = RobustNoise(2, groups=["b", "a"]), RobustNoise(3, groups=["b", "c", "a"])
    same.load_state_dict(state)
    other.load_state_dict(state)
    assert torch.equal(same.own, robust.own)
    assert torch.equal(other.own[[0, 1]], robust.own)
    assert float(other.own[2].abs().sum()) == 0.0
    robust.restart()
    assert float(robust.own.abs().sum()) == 0.0


def test_a_weight_divides_the_noise_of_the_labels_of_its_structures():
    """A weight of four is a noise half as large, whatever the noise follows; rows that are no labels have none."""
    generator = torch.Generator().manual_seed(3)
    truth, weights = torch.ones(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    some = forces(weights, truth, generator, structure=1)
    given = torch.tensor([1.0, 4.0], dtype=torch.float64)
    weighed = KalmanOptimizer(N, KalmanSettings(), weights=given).step(some)[0]
    by_hand = KalmanOptimizer(N, KalmanSettings()).step(some._replace(noise=some.noise / 4.0))[0]
    assert torch.equal(weighed, by_hand)
    ridge = some._replace(
        origin=some.origin._replace(structure=torch.full((6,), -1), kind=torch.full((6,), -1))
    )
    unweighed = KalmanOptimizer(N, KalmanSettings()).step(some)[0]
    assert torch.equal(KalmanOptimizer(N, KalmanSettings(), weights=given).step(ridge)[0], unweighed)
    robust = [
        KalmanOptimizer(N, KalmanSettings(), robust=RobustNoise(2), weights=own) for own in (None, given)
    ]
    steps = [optimizer.step(some)[0] for optimizer in robust]
    assert not torch.allclose(*steps)
    assert torch.equal(robust[0].robust.scale, robust[1].robust.scale)


def test_a_restart_forgets_all_estimates():
    robust = RobustNoise(2, groups=["a", "b"])
    fresh = {name: value.clone() for name, value in robust.state_dict().items()}
    for part in (robust.scale, robust.slope, robust.own):
        part.add_(3.0)
    robust.updates = 7
    robust.restart()
    assert all(torch.equal(value, fresh[name]) for name, value in robust.state_dict().items())


def test_after_a_retreat_all_labels_are_believed_four_times_less():
    careful, plain = filter_of(False), filter_of(False)
    generator = torch.Generator().manual_seed(3)
    truth, weights = torch.ones(N, dtype=torch.float64), torch.zeros(N, dtype=torch.float64)
    some = forces(weights, truth, generator)
    careful.retreat(None)
    expected = plain.step(some._replace(noise=4.0 * some.noise))[0]
    assert torch.allclose(careful.step(some)[0], expected, rtol=1e-12)
