"""The rules of the tables: every one says yes, no, and, where it may, that it cannot tell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).resolve().parents[2] / "examples" / "reproduce"


@pytest.fixture(scope="module")
def rules():
    before = list(sys.path)
    sys.path.insert(0, str(HOME))
    import rules

    yield rules
    sys.path[:] = before


CASES: list[tuple[str, dict[str, Any], bool | None]] = [
    ("within_factor", {"here": [6.0, 19.0], "paper": 10.0, "factor": 2.0}, True),
    ("within_factor", {"here": [6.0, 20.1], "paper": 10.0, "factor": 2.0}, False),
    ("within_factor", {"here": [4.9], "paper": 10.0, "factor": 2.0}, False),
    ("within_factor", {"here": [None], "paper": 10.0, "factor": 2.0}, False),
    ("within_factor", {"here": [0.0], "paper": 10.0, "factor": 2.0}, False),
    ("within_factor", {"here": [], "paper": 10.0, "factor": 2.0}, None),
    ("within_factor", {"here": [12.0], "paper": 10.0, "factor": 2.0, "at_least": True}, None),
    ("within_factor", {"here": [21.0], "paper": 10.0, "factor": 2.0, "at_least": True}, False),
    ("within_interval", {"here": [1.9, 0.5], "high": 2.0}, True),
    ("within_interval", {"here": [14.48, 7.86], "high": 2.0}, False),
    ("within_interval", {"here": [1.9, 2.1], "high": 2.0}, False),
    ("within_interval", {"here": [0.73, 0.23], "low": 0.4, "high": 0.6}, False),
    ("within_interval", {"here": [0.2], "low": 0.1}, True),
    ("within_interval", {"here": [None], "low": 0.1}, False),
    ("within_interval", {"here": [], "low": 0.1}, None),
    ("close", {"here": [0.0164, 0.039], "paper": [0.016, 0.038], "tolerance": 0.0005}, False),
    ("close", {"here": [0.0164, 0.0384], "paper": [0.016, 0.038], "tolerance": 0.0005}, True),
    ("close", {"here": [0.016], "paper": [0.016, 0.038], "tolerance": 0.0005}, False),
    ("close", {"here": [], "paper": [], "tolerance": 0.0005}, None),
    ("ordering", {"lower": [1.0, 2.0], "higher": [1.1, 2.1]}, True),
    ("ordering", {"lower": [1.0, 2.0], "higher": [1.1, 1.9]}, False),
    ("ordering", {"lower": [1.0], "higher": [1.0]}, False),
    ("ordering", {"lower": [1.0], "higher": [None]}, True),  # None: not reached
    ("ordering", {"lower": [None], "higher": [None]}, False),
    ("ordering", {"lower": [1.0], "higher": [2.0], "least": 3}, None),
    ("ordering", {"lower": [], "higher": []}, None),
    ("monotonic", {"here": [3.0, 2.0, 1.0], "falls": True}, True),
    ("monotonic", {"here": [3.0, 2.0, 2.0], "falls": True}, False),
    ("monotonic", {"here": [1.0, 2.0, 1.5], "falls": False}, False),
    ("monotonic", {"here": [1.0, None], "falls": False}, False),
    ("monotonic", {"here": [1.0], "falls": False}, None),
    ("smaller_spread", {"narrow": [1.0, 1.01, 0.99, 1.0], "wide": [1.0, 1.3, 0.7, 1.1]}, True),
    ("smaller_spread", {"narrow": [1.0, 1.3, 0.7, 1.1], "wide": [1.0, 1.01, 0.99, 1.0]}, False),
    ("smaller_spread", {"narrow": [1.150, 1.215, 1.085], "wide": [1.196, 1.255, 1.130]}, False),
    ("smaller_spread", {"narrow": [1.196, 1.254, 1.138], "wide": [1.150, 1.215, 1.085]}, None),
    ("smaller_spread", {"narrow": [1.0, 1.0], "wide": [1.0, 2.0, 3.0]}, None),
    ("cannot_tell", {"reason": "too short"}, None),
]


@pytest.mark.parametrize(("rule", "numbers", "agrees"), CASES)
def test_verdict_follows_from_the_numbers(rules, rule: str, numbers: dict[str, Any], agrees: bool | None):
    found = rules.judge(rule, numbers)
    assert found.agrees is agrees
    assert found.words


def test_every_rule_can_say_no(rules):
    assert {rule for rule, _, agrees in CASES if agrees is False} == set(rules.RULES) - {"cannot_tell"}


def test_words_name_the_bounds(rules):
    words = rules.judge("within_factor", {"here": [1.0], "paper": 10.0, "factor": 2.0}).words
    assert words == "within a factor 2 of 10"
    assert rules.judge("within_interval", {"here": [1.0], "high": 2.0}).words == "at most 2"
    assert rules.judge("ordering", {"lower": [1.0], "higher": [2.0], "least": 3}).words.endswith("(here 1)")
