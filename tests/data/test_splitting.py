"""Which structures train, validate and test: together what belongs together, each in one set, the same every time."""

from __future__ import annotations

import random

import numpy as np
import pytest
from data_tools import emt_copper, water

from nnpkit.data.dataset import structure_sha256
from nnpkit.data.splitting import FEWEST, Division, SplitRule, divide
from nnpkit.data.structure import Structure
from nnpkit.data.trajectories import LARGEST_STEP, trajectories
from nnpkit.errors import InputError


def walk(
    frames: int, step: float = 0.02, seed: int = 0, file: str = "md.xyz", a: float = 3.6
) -> list[Structure]:
    """A copper crystal of four atoms of which all move by `step`, Å, in every frame, across the cell's border."""
    rng = np.random.default_rng(seed)
    positions = a * np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    positions += rng.normal(scale=0.2, size=(4, 3))
    velocities = rng.normal(size=(4, 3))
    velocities *= step / np.sqrt((velocities**2).sum() / 4)
    return [
        Structure(["Cu"] * 4, (positions + k * velocities) % a, a * np.eye(3), [True] * 3, name=f"{file}#{k}")
        for k in range(frames)
    ]


def independent(n: int = 40, seed: int = 1, file: str = "many.xyz") -> list[Structure]:
    rng = np.random.default_rng(seed)
    return [
        Structure(["Cu"] * 4, rng.uniform(0, 3.6, (4, 3)), 3.6 * np.eye(3), [True] * 3, name=f"{file}#{k}")
        for k in range(n)
    ]


def sets(structures: list[Structure], division: Division) -> list[set[str]]:
    return [
        {structures[i].name for i in part} for part in (division.train, division.validation, division.test)
    ]


def require_partition(structures: list[Structure], division: Division) -> None:
    everything = sorted([*division.train, *division.validation, *division.test])
    assert everything == list(range(len(structures)))
    assert all(part == sorted(part) for part in (division.train, division.validation, division.test))


@pytest.mark.parametrize("kind", ["auto", "random"])
def test_it_is_reproducible_and_blind_to_order(kind) -> None:
    frames = independent()
    rule = SplitRule(kind, validation=0.1, test=0.2)
    division = divide(frames, rule, seed=3)
    require_partition(frames, division)
    assert [len(part) for part in sets(frames, division)] == [28, 4, 8]
    shuffled = random.Random(0).sample(frames, k=len(frames))
    assert sets(shuffled, divide(shuffled, rule, seed=3)) == sets(frames, division)
    assert sets(frames, divide(frames, rule, seed=4)) != sets(frames, division)


def test_most_structures_stay_where_they_are_when_some_are_added() -> None:
    frames = independent()
    before, after = (
        sets(f, divide(f, SplitRule("random", test=0.25), seed=0))[2] for f in (frames[:36], frames)
    )
    assert len(before - after) <= 2


def test_copies_stay_on_one_side() -> None:
    frames = [s.replace(energy=float(k)) for s in independent(10) for k in range(3)]
    division = divide(frames, SplitRule("random", validation=0.2, test=0.3), seed=1)
    assert [len(division.train), len(division.validation), len(division.test)] == [15, 6, 9]
    seen = [
        {structure_sha256(frames[i], labels=False) for i in part} for part in (division.train, division.test)
    ]
    assert not seen[0] & seen[1]


def test_trajectories_are_recognised() -> None:
    frames = [*walk(5), *walk(4, seed=1), *independent(3), *walk(3, seed=2, file="other.xyz")]
    assert trajectories(frames) == [[0, 1, 2, 3, 4], [5, 6, 7, 8], [12, 13, 14]]
    assert trajectories(walk(4, step=0.99 * LARGEST_STEP)) == [[0, 1, 2, 3]]
    assert trajectories(walk(4, step=1.01 * LARGEST_STEP)) == []
    scan = [
        Structure(["Cu"], np.zeros((1, 3)), (3.6 + 0.002 * k) * np.eye(3), [True] * 3, name=f"a#{k}")
        for k in range(5)
    ]
    assert trajectories(scan) == []
    molecule = [water(), water().replace(positions=water().positions + 0.03)]
    assert trajectories(molecule) == [[0, 1]]
    barostat = [
        s.replace(cell=s.cell * (1 + 0.001 * k), positions=s.positions * (1 + 0.001 * k))
        for k, s in enumerate(walk(4))
    ]
    assert trajectories(barostat) == [[0, 1, 2, 3]]
    a, b = walk(2)
    assert trajectories([a, b.replace(pbc=[True, True, False])]) == []
    assert trajectories([a, b.replace(symbols=["Cu", "Cu", "Cu", "Au"])]) == []
    assert trajectories([a, b.replace(cell=b.cell * 1.01, positions=b.positions * 1.01)]) == []


def test_one_trajectory_is_cut_in_sequence() -> None:
    frames = walk(50)
    division = divide(frames, SplitRule(), seed=1)
    assert (division.train, division.validation) == (list(range(40)), list(range(40, 45)))
    assert division.test == list(range(45, 50))
    assert (division.trajectories, division.cut) == (1, 1)
    assert division.words == "auto: 1 trajectory recognised, 1 cut in sequence"


def test_whole_trajectories_go_to_a_set() -> None:
    frames = [s for k in range(30) for s in walk(4, seed=k, file=f"{k}.xyz")]
    for kind, group in (("auto", None), ("by_group", "run")):
        own = [s.replace(info={"run": k // 4}) for k, s in enumerate(frames)]
        division = divide(own, SplitRule(kind, group), seed=2)
        require_partition(own, division)
        assert [len(part) for part in sets(own, division)] == [96, 12, 12]
        runs = [
            {index // 4 for index in part} for part in (division.train, division.validation, division.test)
        ]
        assert sum(map(len, runs)) == len(set.union(*runs))
        assert (division.groups, division.cut) == (30, 0)
    assert divide(frames, SplitRule("random"), seed=2).groups == 0


def test_long_trajectories_are_cut_and_single_structures_are_dealt() -> None:
    frames = [*walk(40), *independent(40), *walk(40, seed=5, file="b.xyz")]
    division = divide(frames, SplitRule(), seed=2)
    require_partition(frames, division)
    assert (division.trajectories, division.cut) == (2, 2)
    for first in (0, 80):
        own = [
            [i - first for i in part if first <= i < first + 40]
            for part in (division.train, division.validation, division.test)
        ]
        assert own == [list(range(32)), list(range(32, 36)), list(range(36, 40))]
    assert [
        sum(40 <= i < 80 for i in part) for part in (division.train, division.validation, division.test)
    ] == [32, 4, 4]


def test_a_copied_trajectory_does_not_leak() -> None:
    frames = [*walk(20), *walk(20, file="copy.xyz")]
    division = divide(frames, SplitRule(), seed=2)
    assert {i % 20 for i in division.test} == {18, 19}
    assert {i % 20 for i in division.validation} == {16, 17}
    require_partition(frames, division)


def test_sequential_is_the_order_of_the_files() -> None:
    frames = independent(50)
    division = divide(frames, SplitRule("sequential", validation=0.1, test=0.2), seed=9)
    assert (division.train, division.validation) == (list(range(35)), list(range(35, 40)))
    assert division.test == list(range(40, 50))


def test_groups_by_file_and_by_a_key_that_is_missing() -> None:
    frames = [s for k in range(10) for s in independent(3, seed=k, file=f"{k}.xyz")]
    division = divide(frames, SplitRule("by_group", "file"), seed=0)
    assert len({i // 3 for i in division.test}) == 1 == len({i // 3 for i in division.validation})
    with pytest.raises(
        InputError, match=r"0\.xyz#0: the frame has no 'kind', by which data\.group groups.*or file"
    ):
        divide(frames, SplitRule("by_group", "kind"), seed=0)
    with pytest.raises(InputError, match="nothing is left to train on"):
        divide(frames[:6], SplitRule("by_group", "file"), seed=0)


def test_few_structures_all_train() -> None:
    frames = independent(FEWEST)
    division = divide(frames[:-1], SplitRule(), seed=0)
    assert (division.train, division.validation, division.test) == (list(range(FEWEST - 1)), [], [])
    assert "5 different structures are too few" in division.words
    division = divide(frames, SplitRule(), seed=0)
    assert [len(division.train), len(division.validation), len(division.test)] == [FEWEST - 2, 1, 1]
    assert len(divide(frames, SplitRule(test=0.0), seed=0).train) == FEWEST - 1
    assert len(divide([frames[0]] * 20, SplitRule(), seed=0).train) == 20
    with pytest.raises(InputError, match="nothing is left to train on"):
        divide(frames, SplitRule(test=0.99), seed=0)


@pytest.mark.parametrize("kind", ["auto", "random", "by_group", "sequential"])
def test_every_structure_is_tested_in_one_fold(kind) -> None:
    frames = [*walk(16), *independent(14), *[s for k in range(3) for s in walk(3, seed=k + 3)]]
    frames = [s.replace(info={"of": k // 4}) for k, s in enumerate(frames)]
    rule = [SplitRule(kind, "of" if kind == "by_group" else None, folds=4, fold=n) for n in range(4)]
    parts = [divide(frames, r, seed=2) for r in rule]
    assert sorted(i for part in parts for i in part.test) == list(range(len(frames)))
    assert min(len(part.test) for part in parts) >= 8
    for part in parts:
        require_partition(frames, part)
        assert part.validation
        if kind == "auto":
            for first in (30, 33, 36):
                assert (
                    len(
                        [
                            p
                            for p in (part.train, part.validation, part.test)
                            if {first, first + 1, first + 2} & set(p)
                        ]
                    )
                    == 1
                )
        if kind == "by_group":
            assert not {i // 4 for i in part.test} & {i // 4 for i in [*part.train, *part.validation]}


def test_folds_at_their_limits() -> None:
    frames = independent(12)
    assert divide(frames, SplitRule(folds=5), 2).test != divide(frames, SplitRule(folds=5), 3).test
    with pytest.raises(InputError, match="12 different geometries cannot be divided into 13 folds"):
        divide(frames, SplitRule(folds=13), 1)
    with pytest.raises(InputError, match="cannot be divided into 3 folds"):
        divide(
            [s.replace(info={"k": n % 2}) for n, s in enumerate(frames)],
            SplitRule("by_group", "k", folds=3),
            1,
        )


def test_real_frames_keep_their_labels_apart() -> None:
    frames = emt_copper(n=12, rattle=0.1)
    require_partition(frames, divide(frames, SplitRule(), seed=0))


@pytest.mark.parametrize(
    ("rule", "spread"),
    [
        (SplitRule("random", test=0.2), 2),
        (SplitRule("by_group", "number", test=0.2), 2),
        (SplitRule("by_group", "file", test=0.2), 0),
        (SplitRule("auto", test=0.2), 0),
        (SplitRule("sequential", test=0.2), 0),
        (SplitRule("random", folds=4, fold=1), 2),
    ],
)
def test_trajectories_that_a_rule_spreads_are_counted(rule, spread) -> None:
    frames = [*walk(20), *walk(20, seed=1, file="other.xyz"), *independent(20)]
    frames = [s.replace(info={"number": k % 10}) for k, s in enumerate(frames)]
    assert divide(frames, rule, seed=0).spread == spread


@pytest.mark.parametrize("kind", ["auto", "random"])
def test_every_kind_is_in_every_set_in_proportion(kind) -> None:
    frames = independent(60)
    kinds = ["gas"] * 10 + ["surface"] * 20 + ["bulk"] * 30
    for seed in range(5):
        division = divide(frames, SplitRule(kind, validation=0.1, test=0.2), seed, kinds)
        require_partition(frames, division)
        for part, share in ((division.validation, 0.1), (division.test, 0.2)):
            for name in set(kinds):
                assert abs(sum(kinds[i] == name for i in part) - share * kinds.count(name)) <= 1.0


def test_kinds_leave_the_rest_to_the_seed_and_keep_what_was_together() -> None:
    frames = independent(60)
    kinds = ["gas" if k < 3 else "bulk" for k in range(60)]
    rule = SplitRule("random", validation=0.1, test=0.1)
    divisions = [divide(frames, rule, seed, kinds) for seed in range(40)]
    assert len({tuple(d.validation) for d in divisions}) == 40
    rare = sum(any(kinds[i] == "gas" for i in d.validation) for d in divisions)
    assert 4 <= rare <= 25  # 0.3 of three frames: in no set always, in none never
    order = random.Random(0).sample(range(60), k=60)
    shuffled = [frames[i] for i in order]
    again = divide(shuffled, rule, 7, [kinds[i] for i in order])
    assert sets(shuffled, again) == sets(frames, divisions[7])
    trajectory = walk(12) + independent(30)
    division = divide(trajectory, SplitRule(validation=0.3, test=0.0), 1, ["a"] * 12 + ["b"] * 30)
    inside = [i for i in division.validation if i < 12]
    assert inside in ([], list(range(12)))


def test_folds_share_every_kind() -> None:
    frames = independent(40)
    kinds = ["gas" if k % 4 == 0 else "bulk" for k in range(40)]
    for fold in range(5):
        test = divide(frames, SplitRule(folds=5, fold=fold), 3, kinds).test
        assert (sum(kinds[i] == "gas" for i in test), len(test)) == (2, 8)
