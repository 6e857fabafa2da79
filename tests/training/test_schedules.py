"""Schedules: what an epoch contains, and that it can be repeated and resumed at any update."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpkit.errors import InputError
from nnpkit.measure.label_choice import Available, Labels
from nnpkit.training.schedules.force_groups import GroupSchedule
from nnpkit.training.schedules.random_order import EpochSchedule, PinnSchedule

WATER = [Available(True, 9 * (1 + n % 3), n % 2 == 0) for n in range(7)]


def plain(labels: Labels) -> tuple:
    """Labels as something that can be compared."""
    components = labels.components and [c.tolist() for c in labels.components]
    return labels.structures, labels.energy, components, labels.virial, labels.group


def epochs(schedule, n: int) -> list[list[tuple]]:
    return [[plain(labels) for labels in schedule.epoch()] for _ in range(n)]


def schedules(seed: int = 1) -> list:
    return [
        PinnSchedule(WATER, seed, energy_probability=0.4, force_labels=4, steps_per_epoch=11),
        EpochSchedule(WATER, seed),
        EpochSchedule(WATER, seed, batch_size=3, forces=5, virial=True),
        GroupSchedule(WATER, seed, group_atoms=2, groups=2, virial=True, joint_from=2),
        GroupSchedule(WATER, seed, batch_size=2, group_atoms=1, groups=None, reduce=False),
    ]


@pytest.mark.parametrize("k", range(5))
def test_same_seed_same_labels(k: int) -> None:
    assert epochs(schedules(1)[k], 3) == epochs(schedules(1)[k], 3)
    assert epochs(schedules(1)[k], 3) != epochs(schedules(2)[k], 3)
    first, second = epochs(schedules(1)[k], 2)
    assert first != second
    assert len(first) == schedules(1)[k].epoch_length()


@settings(deadline=None, max_examples=30)
@given(k=st.integers(0, 4), steps=st.integers(0, 20))
def test_state_says_exactly_what_comes_next(k: int, steps: int) -> None:
    schedule = schedules()[k]
    everything = [labels for epoch in epochs(schedules()[k], 9) for labels in epoch]
    length = schedule.epoch_length()
    for _ in range(steps // length):
        list(schedule.epoch())
    begun = schedule.epoch()
    assert [plain(x) for x in islice(begun, steps % length)] == everything[steps - steps % length : steps]
    state = {name: tensor.clone() for name, tensor in schedule.state_dict().items()}
    resumed = schedules(seed=99)[k]
    resumed.load_state_dict(state)
    rest = [plain(labels) for _ in range(3) for labels in resumed.epoch()]
    assert rest[:length] == everything[steps : steps + length]


def test_an_epoch_covers_every_structure_and_label_once() -> None:
    for epoch in epochs(EpochSchedule(WATER, 1, virial=True), 3):
        assert sorted(index for labels in epoch for index in labels[0]) == list(range(7))
        for (index,), energy, (components,), virial, _ in epoch:
            assert energy
            assert components == list(range(WATER[index].components))
            assert virial == WATER[index].virial


def test_a_number_of_forces_is_drawn_anew_every_epoch() -> None:
    first, second = ({x[0][0]: x[2][0] for x in e} for e in epochs(EpochSchedule(WATER, 1, forces=5), 2))
    assert first != second
    assert all(len(c) == len(set(c)) == 5 and max(c) < WATER[k].components for k, c in first.items())


def test_batches_hold_structures_with_the_same_kinds_of_labels() -> None:
    mixed = [Available(n % 2 == 0, 6 if n % 3 else 0, False) for n in range(20)] + [Available(False, 0, True)]
    schedule = EpochSchedule(mixed, 1, batch_size=4)
    epoch = epochs(schedule, 1)[0]
    assert sorted(i for labels in epoch for i in labels[0]) == [n for n, a in enumerate(mixed) if any(a[:2])]
    for indices, energy, components, virial, _ in epoch:
        assert len(indices) <= 4
        assert not virial
        assert all(
            mixed[i].energy == energy and bool(mixed[i].components) == (components is not None)
            for i in indices
        )


def test_energies_only() -> None:
    assert all(c is None and e for _, e, c, _, _ in epochs(EpochSchedule(WATER, 1, forces=0), 1)[0])
    assert all(c is None for _, _, c, _, _ in epochs(PinnSchedule(WATER, 1, energy_probability=1.0), 1)[0])


def test_pinn_uses_one_energy_or_some_forces_of_one_structure() -> None:
    few = [Available(True, 3, False), Available(False, 30, False), Available(True, 0, False)]
    labels = epochs(PinnSchedule(few, 1, force_labels=10, steps_per_epoch=2000), 1)[0]
    energies = [x for x in labels if x[1]]
    assert 900 < len(energies) < 1100  # 4.5 standard deviations
    assert {x[0][0] for x in energies} == {0, 2}
    assert {(x[0][0], len(x[2][0])) for x in labels if not x[1]} == {(0, 3), (1, 10)}
    counts = torch.bincount(torch.tensor([c for x in labels if x[0] == [1] for c in x[2][0]]))
    assert counts.min() > 100  # about 167 times each


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda a: PinnSchedule(a, 1), "energies.*energy_probability|energy_probability.*energies"),
        (lambda a: EpochSchedule(a, 1), "training.schedule.energy: the schedule uses energies"),
        (lambda a: EpochSchedule(a, 1, energy=False), "training.schedule.forces: .* Set it to 0"),
        (
            lambda a: EpochSchedule(a, 1, energy=False, forces=0, virial=True),
            "training.schedule.virial: .* stresses",
        ),
    ],
)
def test_labels_that_nobody_has(make, key: str) -> None:
    with pytest.raises(InputError, match=key):
        make([Available(False, 0, False)] * 3)


def test_the_energy_comes_first_or_last() -> None:
    available = [Available(True, 21, True)] * 2
    after = list(GroupSchedule(available, 1, group_atoms=3, groups=2, virial=True).epoch())
    assert [u.energy for u in after] == [False, False, False, True] * 2
    schedule = GroupSchedule(available, 1, group_atoms=3, groups=2, virial=True, energy_first=True)
    updates = list(schedule.epoch())
    assert [(u.energy, u.components is not None, u.virial) for u in updates] == [
        (True, False, False), (False, True, False), (False, True, False), (False, False, True),
    ] * 2  # fmt: skip
    assert {tuple(u.structures) for u in updates[:4]} != {tuple(u.structures) for u in updates[4:]}
    first, second = updates[1].components[0], updates[2].components[0]
    assert first.tolist() == [
        3 * (int(c) // 3) + k % 3 for k, c in enumerate(first)
    ]  # x, y, z of three atoms
    assert len(first) == len(second) == updates[1].group == 9
    assert not set(first.tolist()) & set(second.tolist())


def test_all_groups_use_every_component_once() -> None:
    schedule = GroupSchedule([Available(True, 21, False)], 1, group_atoms=3, groups=None)
    forces = [u.components[0] for u in schedule.epoch() if u.components is not None]
    assert [len(f) for f in forces] == [9, 9, 3]
    assert sorted(torch.cat(forces).tolist()) == list(range(21))


def test_groups_become_one_update() -> None:
    schedule = GroupSchedule(
        [Available(True, 21, True)] * 2, 1, group_atoms=3, groups=2, virial=True, joint_from=1
    )
    assert [len(list(schedule.epoch())) for _ in range(3)] == [8, 2, 2]
    assert [schedule.epoch_length(epoch) for epoch in range(3)] == [8, 2, 2]
    (update, _) = schedule.epoch()
    assert (update.energy, update.virial, len(update.components[0]), update.group) == (True, True, 18, 9)


def test_a_structure_smaller_than_a_group_is_one_group() -> None:
    available = [Available(True, 18, False), Available(True, 3, False, "atom"), Available(True, 36, False)]
    schedule = GroupSchedule(available, 1, group_atoms=6)
    sizes = [(labels.structures, [len(c) for c in labels.components or []]) for labels in schedule.epoch()]
    assert {tuple(one): sum(1 for s, c in sizes if s == one and c) for one in ([0], [1], [2])} == {
        (0,): 1, (1,): 1, (2,): 2,
    }  # fmt: skip
    assert all(count == [3] for structure, count in sizes if structure == [1] and count)
    assert all(count == [18] for structure, count in sizes if structure != [1] and count)


def test_groups_need_forces() -> None:
    with pytest.raises(InputError, match="the schedule uses forces"):
        GroupSchedule([Available(True, 0, False)], 1)
