"""Structures that are prepared before they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from nnpkit.measure.ahead import Ahead


@pytest.fixture
def made() -> list[tuple[int, bool, bool]]:
    """Structures that were prepared, whether for an update, and whether by another thread."""
    return []


@pytest.fixture
def ahead(made: list[tuple[int, bool, bool]]) -> Iterator[Ahead[str]]:
    """Structures of which those below 0 are bad and the tenth is kept."""

    def make(index: int, for_update: bool) -> str:
        made.append((index, for_update, threading.current_thread() is not threading.main_thread()))
        if index < 0:
            raise ValueError(f"structure {index} is bad")
        return f"structure {index}"

    found = Ahead(make, lambda index: index == 10)
    yield found
    found.stop()


def wait_for(what: Callable[[], bool]) -> None:
    """Let the thread work."""
    for _ in range(500):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError("the thread does nothing")


def test_a_thread_prepares_what_comes(ahead: Ahead[str], made: list[tuple[int, bool, bool]]) -> None:
    ahead.start()
    ahead.expect([3, 4], [5, 10])
    assert ahead.get(3) == "structure 3"
    wait_for(lambda: len(made) == 3)
    assert sorted(made) == [(3, False, False), (4, True, True), (5, True, True)]
    assert ahead.get(4) == "structure 4"
    ahead.expect([5], [6], for_update=False)
    assert ahead.get(5) == "structure 5"
    wait_for(lambda: len(made) == 4)
    assert made[-1] == (6, False, True)


@pytest.mark.parametrize("threads", [True, False])
def test_structures_of_an_update_are_prepared_once(
    ahead: Ahead[str], made: list[tuple[int, bool, bool]], threads: bool
) -> None:
    """However often it asks for them, and the next update if it uses them too; then they are forgotten."""
    if threads:
        ahead.start()
    for _ in range(2):
        ahead.expect([3, 4], [])
        assert [ahead.get(index) for index in (3, 4, 3)] == ["structure 3", "structure 4", "structure 3"]
    assert sorted(index for index, *_ in made) == [3, 4]
    ahead.expect([5], [])
    ahead.get(3), ahead.get(3)
    assert [index for index, *_ in made].count(3) == 3


def test_nothing_is_done_ahead_before_the_start(
    ahead: Ahead[str], made: list[tuple[int, bool, bool]]
) -> None:
    ahead.expect([3], [4, 5])
    time.sleep(0.05)
    assert made == []


def test_what_is_wrong_is_said_when_it_is_asked_for(ahead: Ahead[str]) -> None:
    ahead.start()
    ahead.expect([3], [-1])
    assert ahead.get(3) == "structure 3"
    ahead.expect([-1], [])
    with pytest.raises(ValueError, match="structure -1 is bad"):
        ahead.get(-1)


def test_the_thread_ends(ahead: Ahead[str]) -> None:
    ahead.start()
    ahead.expect([3], [4])
    assert any(thread.name.startswith("nnpkit-ahead") for thread in threading.enumerate())
    ahead.stop()
    assert not any(thread.name.startswith("nnpkit-ahead") for thread in threading.enumerate())
    assert ahead.get(4) == "structure 4"
