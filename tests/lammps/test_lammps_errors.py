"""Every mistake ends all ranks with one clear line: nothing hangs, nothing goes on with wrong numbers."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import pytest
from harness import lmp, potential, random_structure, run, setup, write_data
from toy import METADATA, write_toy

from nnpkit.seal import seal


@pytest.fixture
def place(folder: Path) -> Path:
    """A folder with the toy and a structure."""
    write_data(folder / "data.lmp", random_structure(12, [7.0, 7.0, 7.0], seed=12))
    return folder


def refusal(place: Path, text: str, ranks: int = 1) -> str:
    """The one error of a run that has to fail."""
    result = lmp(place, text, ranks)
    assert result.returncode != 0
    assert len(result.errors) == 1, result.output
    return result.errors[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (setup(units="lj") + potential(), "needs units metal or real, not lj"),
        ("newton off\n" + setup() + potential() + "run 0\n", "needs newton pair on"),
        (setup() + "pair_style nnpkit\npair_coeff * * toy.pt O\n", "each of the 2 atom types, got 1"),
        (setup() + "pair_style nnpkit\npair_coeff * * toy.pt O H H\n", "each of the 2 atom types, got 3"),
        (setup() + "pair_style nnpkit\npair_coeff * * toy.pt O C\n", "atom type 2 is not in toy.pt, which knows O"),
        (setup() + "pair_style nnpkit\npair_coeff * * toy.pt NULL NULL\n", "every atom type is NULL"),
        (setup() + "pair_style nnpkit\npair_coeff * * toy.pt O NULL\nrun 0\n", "All pair coeffs are not set"),
        (setup() + "pair_style nnpkit\npair_coeff 1 2 toy.pt O H\n", "Pair_coeff must start with * *"),
        (setup() + "pair_style nnpkit\npair_coeff * *\n", "expects: pair_coeff * * model.pt"),
        (setup() + potential("device gpu"), "device is 'gpu', expected auto, cpu or cuda"),
        (setup() + potential("precision half"), "expected float64, mixed or float32"),
        (setup() + potential("chunk -1"), "expected a number of atoms"),
        (setup() + potential("chunk 5000000000"), "chunk is '5000000000', expected a number of atoms"),
        (setup() + potential("omp 2147483648"), "not above 2147483647"),
        (setup() + potential("every 99999999999999999999"), "not above"),
        (setup() + potential("omp 0"), "expected a number of threads"),
        (setup() + potential("chunk"), "keyword chunk has no value"),
        (setup() + potential("cutoff 5"), "unknown keyword 'cutoff'"),
        (setup() + potential() + "run 0\npair_style nnpkit chunk 8\nrun 0\n", "All pair coeffs are not set"),
    ],
)  # fmt: skip
def test_input(place: Path, text: str, words: str) -> None:
    assert words in refusal(place, text)


def test_a_missing_gpu_is_named(place: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "torch sees no usable GPU" in refusal(place, setup() + potential("device cuda"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_missing_file(place: Path, ranks: int) -> None:
    text = refusal(place, setup() + potential(model="absent.pt"), ranks)
    assert "cannot open model file absent.pt: No such file or directory" in text


@pytest.mark.parametrize("rank_without", [0, 1])
def test_file_missing_on_one_rank(place: Path, rank_without: int) -> None:
    """The first rank reads for all: if it cannot, all stop; a rank that does not read needs no file."""
    (place / "in.lmp").write_text(setup() + potential() + "run 0\nprint '@pe $(pe)'\n")
    (elsewhere := place / "elsewhere").mkdir()
    for name in ("in.lmp", "data.lmp"):
        (elsewhere / name).write_bytes((place / name).read_bytes())
    folders = [elsewhere, place] if rank_without == 0 else [place, elsewhere]
    command = ["mpirun"]
    for folder in folders:
        command += [":"] * (folder is folders[1]) + ["-n", "1", "-wdir", str(folder), "lmp", "-in", "in.lmp"]
    result = run(place, command)
    if rank_without == 0:
        assert result.returncode != 0
        assert len(result.errors) == 1, result.output
        assert "cannot open model file toy.pt" in result.errors[0]
    else:
        assert result.returncode == 0, result.output
        assert "pe" in result.values()


def change_bytes(path: Path, change: str) -> None:
    """Damage a file."""
    content = path.read_bytes()
    if change == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif change == "empty":
        path.write_bytes(b"")
    elif change == "text":
        path.write_text("this is no model\n")


@pytest.mark.parametrize("change", ["truncated", "empty", "text"])
def test_damaged_file(place: Path, change: str) -> None:
    change_bytes(place / "toy.pt", change)
    text = refusal(place, setup() + potential(), 2)
    assert "toy.pt" in text
    assert ("is empty" if change == "empty" else "no model file, or a truncated one") in text


def test_other_potentials_are_told_how_to_become_a_model_file(place: Path) -> None:
    (place / "nep.txt").write_text("nep4 1 H\n")
    assert "make one with nnpkit convert nep.txt model.pt" in refusal(
        place, setup() + potential(model="nep.txt"), 2
    )
    (place / "runner").mkdir()
    text = refusal(place, setup() + potential(model="runner"))
    assert "runner: Is a directory; give the model.pt in it" in text
    assert "with nnpkit convert runner model.pt" in text


def test_changed_weights_fail_the_self_test(place: Path) -> None:
    write_toy(place / "toy.pt", tamper=1e-6)
    text = refusal(place, setup() + potential(), 2)
    assert "self-test failed" in text
    assert "changed or damaged after export" in text


def test_what_single_precision_gets_wrong_is_refused_with_the_reason(place: Path) -> None:
    write_toy(place / "toy.pt", cancelling=1e6)
    text = refusal(place, setup() + potential("precision mixed"), 2)
    assert "self-test failed" in text
    assert "this potential needs precision float64" in text
    assert "damaged" not in text


def test_a_bit_changed_inside_the_archive_fails(place: Path) -> None:
    """One weight replaced in the zip file, with a checksum that is right again."""
    with zipfile.ZipFile(place / "toy.pt") as old, zipfile.ZipFile(place / "changed.pt", "w") as new:
        for entry in old.namelist():
            content = bytearray(old.read(entry))
            if entry.endswith("/data/1"):  # the pair energies A
                content[6] ^= 1  # of the mantissa of the first
            new.writestr(entry, bytes(content))
    assert "no model file" in refusal(place, setup() + potential(model="changed.pt"))
    (place / "changed.pt").write_bytes(seal((place / "changed.pt").read_bytes()))  # and the other one, too
    assert "self-test failed" in refusal(place, setup() + potential(model="changed.pt"))


def test_a_bit_changed_anywhere_breaks_the_seal(place: Path) -> None:
    content = bytearray((place / "toy.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (place / "toy.pt").write_bytes(content)
    assert "damaged or was altered: its checksum is wrong" in refusal(place, setup() + potential(), 2)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({**METADATA, "format_version": 2}, "format version 2, this plugin reads version 1"),
        ({**METADATA, "format": "other"}, "format is 'other', expected 'nnpkit-model'"),
        (
            {**METADATA, "units": {"length": "bohr", "energy": "eV"}},
            "units.length is 'bohr', expected 'angstrom'",
        ),
        ({**METADATA, "sign": "virial = dE/dstrain"}, "sign is 'virial = dE/dstrain'"),
        ({**METADATA, "cutoff": 0.0}, "the cutoff is not positive"),
        ({k: v for k, v in METADATA.items() if k != "elements"}, "damaged"),
    ],
)
def test_metadata_that_does_not_fit(place: Path, metadata: dict, words: str) -> None:
    write_toy(place / "toy.pt", metadata=metadata)
    assert words in refusal(place, setup() + potential())


def test_plain_torchscript_is_no_model(place: Path) -> None:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Identity()), str(place / "toy.pt"))
    (place / "toy.pt").write_bytes(seal((place / "toy.pt").read_bytes()))
    assert "without nnpkit metadata" in refusal(place, setup() + potential())


def test_bonds_that_hide_neighbors_are_refused(place: Path) -> None:
    (place / "data.lmp").write_text(
        "bonded\n\n2 atoms\n1 bonds\n2 atom types\n1 bond types\n1 extra bond per atom\n2 extra special per atom\n"
        "0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\nMasses\n\n1 16\n2 1\n\nAtoms # molecular\n\n"
        "1 1 1 1 1 1\n2 1 2 1.9 1 1\n\nBonds\n\n1 1 1 2\n"
    )
    head = "units metal\natom_style molecular\nbond_style zero\nSPECIAL\nread_data data.lmp\nbond_coeff *\n"
    assert "special_bonds removes" in refusal(place, head.replace("SPECIAL", "") + potential() + "run 0\n")
    kept = head.replace("SPECIAL", "special_bonds lj/coul 1.0 1.0 1.0") + potential() + "run 0\n"
    assert lmp(place, kept).returncode == 0


def test_energies_that_are_not_finite_stop_the_run(place: Path) -> None:
    write_toy(place / "toy.pt", hole=0.5)
    text = (
        setup()
        + potential("chunk 4")
        + "run 0\ncreate_atoms 2 single 1 1 1\ncreate_atoms 2 single 1 1 1.1\nrun 0\n"
    )
    message = refusal(place, text)
    assert "is not finite at step 0" in message
    assert "energy or force of atom 13" in message or "energy or force of atom 14" in message
