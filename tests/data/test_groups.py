"""What names the groups of structures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnpkit.data.groups import find_grouping, kinds_of
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError


def frame(name: str = "a.xyz#0", **info: Any) -> Structure:
    return Structure(["Cu"], np.zeros((1, 3)), energy=1.0, name=name, info=info)


def named(key: str, values: str) -> list[Structure]:
    return [frame(f"a.xyz#{k}", **{key: value}) for k, value in enumerate(values)]


@pytest.mark.parametrize(
    ("key", "values"), [("config_type", "aabb"), ("group", "aaab"), ("config_type", "abcabc")]
)
def test_the_usual_keys_are_found(key: str, values: str) -> None:
    structures = named(key, values)
    grouping = find_grouping({"train": structures})
    assert grouping is not None
    assert grouping.key == key
    assert grouping.names(structures) == list(values)


@pytest.mark.parametrize(
    "structures",
    [
        named("config_type", "aaaa"),  # one group
        named("config_type", "abcd"),  # names of frames
        named("other", "aabb"),
        [s.replace(info={"config_type": np.arange(3)}) for s in named("config_type", "aabb")],
        [*named("config_type", "aabb"), frame("a.xyz#4", config_type=np.arange(3))],  # an array is no name
    ],
)
def test_nothing_that_is_no_group_is_found(structures: list[Structure]) -> None:
    assert find_grouping({"train": structures}) is None


def test_config_type_comes_before_group_and_group_before_file() -> None:
    both = [
        frame(f"{f}.xyz#{k}", group=g, config_type=c)
        for k, (f, g, c) in enumerate(["xau", "xav", "ybu", "ybv"])
    ]
    keys = []
    for absent in ((), ("config_type",), ("config_type", "group")):
        some = [s.replace(info={k: v for k, v in s.info.items() if k not in absent}) for s in both]
        found = find_grouping({"train": some})
        assert found is not None
        keys.append((found.key, found.names(some)))
    assert keys == [
        ("config_type", ["u", "v", "u", "v"]), ("group", ["a", "a", "b", "b"]),
        ("file", ["x.xyz", "x.xyz", "y.xyz", "y.xyz"]),
    ]  # fmt: skip


def test_files_of_the_same_name_are_told_apart_by_their_folders() -> None:
    names = [f"data/{k}/OUTCAR#{n}" for k in "ab" for n in range(2)]
    structures = [frame(name) for name in names]
    found = find_grouping({"train": structures})
    assert found is not None
    assert found.names(structures) == ["a/OUTCAR", "a/OUTCAR", "b/OUTCAR", "b/OUTCAR"]


def test_one_file_for_each_set_makes_no_groups() -> None:
    parts = {name: [frame(f"{name}.xyz#{k}") for k in range(4)] for name in ("train", "test")}
    assert find_grouping(parts) is None


def test_frames_without_the_key_are_a_group_of_their_own() -> None:
    structures = [*named("kind", "aab"), frame("a.xyz#3"), frame("a.xyz#4", kind=7)]
    found = find_grouping({"train": structures}, "kind")
    assert found is not None
    assert found.names(structures) == ["a", "a", "b", "no kind", "7"]


@pytest.mark.parametrize(
    ("structures", "wanted", "words"),
    [
        (named("kind", "aab"), "knid", r"no frame has 'knid'.*the frames \(kind\)"),
        (named("kind", "aaa"), "kind", "all frames are of one group: a"),
        (named("kind", "aab"), "file", "all frames are of one group: a.xyz"),
        ([frame(kind=np.arange(2)), frame(kind="a")], "kind", "it is an array"),
    ],
)
def test_a_key_that_names_no_groups_is_refused(structures: list[Structure], wanted: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_grouping({"train": structures}, wanted)


def test_kinds_are_groups_or_compositions() -> None:
    assert kinds_of(named("config_type", "aabb")) == ["a", "a", "b", "b"]
    two, four = Structure(["Li", "Si"], np.eye(2, 3)), Structure(["Si", "Li", "Si", "Li"], np.eye(4, 3))
    other = Structure(["Li", "Li", "Si"], np.eye(3, 3))
    assert kinds_of([two, four, other]) == ["Li1 Si1", "Li1 Si1", "Li2 Si1"]
    assert kinds_of(named("config_type", "aabb"), "none") == ["Cu1"] * 4
    assert kinds_of(named("mine", "aaaa"), "mine") == ["a"] * 4  # sets in other files may have other groups
    assert kinds_of([frame("x/a.xyz#0"), frame("x/b.xyz#0")], "file") == ["a.xyz", "b.xyz"]
