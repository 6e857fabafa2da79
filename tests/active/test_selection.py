"""What is selected, and that every decision says why."""

from __future__ import annotations

import numpy as np
import pytest

from nnpkit.active.assess import Assessment, Extrapolation
from nnpkit.active.selection import Bounds, Selection, count_verdicts, learn_bounds, select
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

BOUNDS = Bounds(0.1, 0.5, "as given")


def candidate(
    k: int, disagreement: float | None = 0.2, at: tuple[float, float] | None = None, **more
) -> Assessment:
    structure = Structure(["Cu"], np.array([[k * 0.01, 0.0, 0.0]]), name=f"frame {k}")
    values = {"energy": -1.0, "max_force": 1.0, "energy_std": None, "extrapolation": None, "min_distance": {}}
    vector = np.array(at if at is not None else (float(k), 0.0))
    return Assessment(
        structure=structure, key=f"{k:064x}", disagreement=disagreement, vector=vector, **{**values, **more}
    )


def verdicts(candidates, rules=None, **more) -> list[str]:
    return [d.verdict for d in select(candidates, BOUNDS, rules or Selection(), **more)]


@pytest.mark.parametrize(
    ("frame", "verdict", "words"),
    [
        (candidate(1), "taken", "disagreement 0.2 eV/Å between 0.1 and 0.5; number 1 by fps"),
        (candidate(1, 0.05), "too certain", "disagreement 0.05 eV/Å, below 0.1"),
        (candidate(1, 0.6), "too wild", "disagreement 0.6 eV/Å, above 0.5"),
        (candidate(1, float("nan")), "too wild", "disagreement nan"),
        (candidate(1, max_force=80.0), "too wild", "a predicted force of 80 eV/Å, above 50"),
        (candidate(1, max_force=float("nan")), "too wild", "a predicted force of nan"),
        (
            candidate(1, min_distance={"Cu-Cu": 1.5}),
            "too wild",
            "Cu-Cu at 1.500 Å, below 0.8 of the",
        ),
        (
            candidate(1, 0.05, extrapolation=Extrapolation("Cu", "G2", 0.2, 3)),
            "taken",
            "extrapolation: Cu G2 is 0.2 of",
        ),
        (candidate(1, None), "too certain", "no feature outside its range"),
    ],
)
def test_one_frame(frame, verdict, words) -> None:
    (decision,) = select([frame], BOUNDS, Selection(), min_distance={"Cu-Cu": 2.0})
    assert decision.verdict == verdict
    assert words in decision.reason


def test_a_feature_outside_by_less_than_asked_for_is_no_reason() -> None:
    frame = candidate(1, 0.05, extrapolation=Extrapolation("Cu", "G2", 0.01, 3))
    (little,), (enough,) = (select([frame], BOUNDS, Selection(extrapolation=e)) for e in (0.05, 0.0))
    assert (little.verdict, enough.verdict) == ("too certain", "taken")
    assert "below 0.1" in little.reason


def test_what_is_known_is_not_taken_again() -> None:
    frames = [candidate(1), candidate(2), candidate(1), candidate(3)]
    found = select(
        frames, BOUNDS, Selection(duplicate=0.0), known_keys={frames[1].key: "its label failed before"}
    )
    assert [d.verdict for d in found] == ["taken", "duplicate", "duplicate", "taken"]
    assert [found[1].reason, found[2].reason] == ["its label failed before", "the same as frame 1"]


def test_farthest_points_come_first() -> None:
    """From what is known at 0: the farthest, then the one farthest from both."""
    frames = [candidate(k, at=(x, 0.0)) for k, x in enumerate([1.0, 10.0, 5.5, 9.5])]
    known = np.zeros((1, 2))
    found = select(frames, BOUNDS, Selection(budget=2, duplicate=0.0), known)
    assert [d.verdict for d in found] == ["over budget", "taken", "taken", "over budget"]
    assert "number 1 by fps" in found[1].reason
    assert "number 2 by fps" in found[2].reason
    assert count_verdicts(found) == {
        "taken": 2,
        "too certain": 0,
        "too wild": 0,
        "duplicate": 0,
        "over budget": 2,
    }


def test_near_ones_are_duplicates() -> None:
    known = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])  # typical distance 1
    frames = [candidate(k, at=(x, 0.0)) for k, x in enumerate([2.05, 7.0, 7.05])]
    found = select(frames, BOUNDS, Selection(duplicate=0.1), known)
    assert [d.verdict for d in found] == ["duplicate", "duplicate", "taken"]  # the farthest comes first
    assert "a structure with a label" in found[0].reason
    assert "frame 2" in found[1].reason


@pytest.mark.parametrize("method", ["fps", "cur", "disagreement", "random"])
def test_every_method_takes_the_budget(method) -> None:
    random = np.random.default_rng(1)
    frames = [
        candidate(k, d, at=tuple(random.normal(size=2))) for k, d in enumerate(random.uniform(0.1, 0.5, 20))
    ]
    rules = Selection(budget=6, method=method, duplicate=0.0)
    first, again = (select(frames, BOUNDS, rules) for _ in range(2))
    assert first == again
    assert count_verdicts(first)["taken"] == 6
    if method == "disagreement":
        least = min(d.disagreement for d in first if d.verdict == "taken")
        assert all(d.disagreement <= least for d in first if d.verdict != "taken")


def test_no_candidates() -> None:
    assert select([], BOUNDS, Selection()) == []
    assert verdicts([candidate(1, 0.01)]) == ["too certain"]


def test_bounds_are_learnt_from_the_errors() -> None:
    """Errors three times the disagreement: a bound on the error becomes a third of it on the disagreement."""
    error = np.linspace(0.01, 1.0, 100)
    bounds = learn_bounds(error / 3.0, error, percentile=90.0, factor=4.0)
    assert bounds.lower == pytest.approx(np.percentile(error, 90.0) / 3.0)
    assert bounds.upper == pytest.approx(4.0 * bounds.lower)
    with pytest.raises(InputError, match="cannot be learnt"):
        learn_bounds(np.zeros(0), np.zeros(0))
    with pytest.raises(InputError, match="cannot be learnt"):
        learn_bounds(np.zeros(3), np.ones(3))


def test_unknown_method() -> None:
    with pytest.raises(InputError, match="no selection method 'best'"):
        Selection(method="best")
