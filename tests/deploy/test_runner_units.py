"""Units of a RuNNer potential: as said, or inferred where that is safe, or asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnpkit.deploy.imports.runner_units import find_units, given_units
from nnpkit.errors import InputError
from nnpkit.families.acsf.runner_settings import RunnerSettings
from nnpkit.units import BOHR


def settings(*comments: str) -> RunnerSettings:
    return RunnerSettings(Path("input.nn"), comments=list(comments))


@pytest.mark.parametrize(
    ("cutoff", "name", "reason"),
    [
        (12.0, "bohr-hartree", "too long to be in Å"),
        (9.8265759, "bohr-hartree", "too long to be in Å"),
        (7.7478771, "bohr-hartree", "is 4.1 Å"),
        (6.5 / BOHR / 2, "bohr-hartree", "is 3.25 Å"),
        (12 * BOHR, "angstrom-ev", "is 12 bohr"),
        (4.1, "angstrom-ev", "too short to be in bohr"),
    ],
)
def test_inferred_from_the_cutoff(cutoff: float, name: str, reason: str) -> None:
    found = find_units(settings(), [3.0, cutoff], None)
    assert (found.system.name, found.inferred) == (name, True)
    assert reason in found.reason


@pytest.mark.parametrize("cutoff", [6.0, 6.35, 8.0, 7.1234567])
def test_ambiguous_cutoffs_are_refused(cutoff: float) -> None:
    with pytest.raises(
        InputError, match=r"input\.nn: the units .* cannot be told .*angstrom-ev or bohr-hartree.*cflength"
    ):
        find_units(settings(), [cutoff], None)


@pytest.mark.parametrize(
    ("comments", "name", "inferred"),
    [
        (["Length unit     : Angstrom", "Energy unit     : eV"], "angstrom-ev", True),
        (["Length unit     : Bohr", "Energy unit     : Ha"], "bohr-hartree", True),
        (["energy unit = Hartree, length unit = bohr"], "bohr-hartree", True),
        (["nnpkit units: angstrom-ev"], "angstrom-ev", False),
        (["nnpkit units: bohr-hartree", "Length unit : Angstrom", "Energy unit : eV"], "bohr-hartree", False),
    ],
)
def test_comments_come_before_the_cutoff(comments: list[str], name: str, inferred: bool) -> None:
    found = find_units(settings(*comments), [12.0 if "angstrom" in name else 4.0], None)
    assert (found.system.name, found.inferred) == (name, inferred)


def test_mixed_comments_do_not_count() -> None:
    assert (
        find_units(settings("Length unit : Angstrom", "Energy unit : Ha"), [12.0], None).system.length == BOHR
    )


def test_damaged_comment_of_our_own() -> None:
    with pytest.raises(InputError, match="nnpkit units"):
        find_units(settings("nnpkit units: feet"), [12.0], None)


def test_what_the_user_says_comes_first() -> None:
    found = find_units(settings("nnpkit units: angstrom-ev"), [12.0], given_units("bohr-hartree", None, None))
    assert (found.system.name, found.inferred) == ("bohr-hartree", False)


def test_numbers_of_lammps() -> None:
    system = given_units(None, 1.8897261328, 0.0367493254)
    assert system.length == pytest.approx(BOHR, rel=1e-7)
    assert system.energy == pytest.approx(27.2113838565, rel=1e-9)


@pytest.mark.parametrize(
    "given",
    [("feet", None, None), (None, 1.0, None), (None, None, 1.0), ("angstrom-ev", 1.0, 1.0), (None, 0.0, 1.0)],
)
def test_half_given_units(given: tuple[str | None, float | None, float | None]) -> None:
    with pytest.raises(InputError, match="units"):
        given_units(*given)
