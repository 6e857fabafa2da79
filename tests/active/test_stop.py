"""When the loop ends, from what its record says."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from nnpkit.active.loop import Loop
from nnpkit.active.project import StopRules
from nnpkit.active.store import Store


def record(folder, rounds: list[tuple[float, int, int]], errors: list[float]) -> Store:
    """The record of rounds with a fraction of uncertain frames, frames taken and labels done."""
    store = Store(folder, create=True)
    for number, (fraction, taken, done) in enumerate(rounds):
        for step, detail in (
            ("select", {"fraction": fraction, "taken": taken}),
            ("label", {"done": done, "quarantined": taken - done}),
        ):
            store.begin_step(number, step)
            store.end_step(number, step, detail)
    for number, error in enumerate(errors):
        store.record("models", round=number, path=f"{number}", errors=json.dumps({"force_rmse": error}))
    return store


@pytest.mark.parametrize(
    ("rounds", "errors", "words"),
    [
        ([(0.3, 5, 5)] * 2, [0.3, 0.2, 0.19], None),
        ([(0.3, 5, 5), (0.01, 5, 5)], [0.3, 0.2, 0.199], None),  # few in one round only
        ([(0.01, 5, 5)] * 2, [0.3, 0.2, 0.1], None),  # few, but the error still falls
        ([(0.01, 5, 5)] * 2, [0.3, 0.2, 0.199], "converged"),
        (
            [(0.3, 5, 0)] * 2,
            [0.3, 0.2, 0.2],
            "every label of the last two rounds failed: look into quarantine",
        ),
        ([(0.3, 5, 0), (0.3, 5, 1)], [0.3, 0.2, 0.2], None),
        ([(0.0, 0, 0)] * 2, [0.3, 0.3, 0.3], "converged"),  # nothing to take
        ([(0.3, 5, 5)] * 3, [0.3, 0.2, 0.1, 0.05], "all 3 rounds are done"),
    ],
)
def test_reasons_to_end(tmp_path, rounds, errors, words) -> None:
    loop = SimpleNamespace(
        project=SimpleNamespace(stop=StopRules(rounds=3)), store=record(tmp_path, rounds, errors),
        labeller=SimpleNamespace(settings="s"),
    )  # fmt: skip
    reason = Loop._enough(loop, len(rounds))  # type: ignore[arg-type]
    assert (reason is None) if words is None else (words in (reason or ""))


def test_budgets(tmp_path) -> None:
    store = record(tmp_path, [(0.3, 5, 5)], [0.3, 0.2])
    store.log_session(0.0)
    store.log_session(0.0, end=7200.0)
    loop = SimpleNamespace(store=store, labeller=SimpleNamespace(settings="s"))
    expected = {"0 labels, allowed 0": StopRules(labels=0), "2.00 hours, allowed 1.5": StopRules(hours=1.5)}
    for words, rules in expected.items():
        loop.project = SimpleNamespace(stop=rules)
        assert Loop._enough(loop, 1) == words  # type: ignore[arg-type]


def test_a_killed_session_ended_with_its_last_task(tmp_path) -> None:
    store = Store(tmp_path, create=True)
    store.log_session(100.0)
    store.record("runs", task="t", kind="train", state="done", time=150.0)
    store.log_session(200.0)
    assert store.fact("sessions") == [{"begin": 100.0, "end": 150.0}, {"begin": 200.0, "end": None}]
