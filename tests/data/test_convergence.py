"""Frames whose electronic structure did not converge, and compressed files of ASE's formats."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Sequence
from pathlib import Path

import pytest
from foreign_tools import file, frame, read_with_notes

from nnpkit.data.formats.convergence import unconverged_images
from nnpkit.data.formats.reading import read
from nnpkit.errors import InputError

HEAD = """ vasp.6.4.2 18Apr23
 POTCAR:    PAW_PBE Cu 22Jun2005
   ions per type =               1
   NELM   =     {nelm};   NELMIN=  2; NELMDL= -5     # of ELM steps
   ISPIN  =      1    spin polarized calculation?
"""
REACHED = (
    "------------------------ aborting loop because EDIFF is reached ----------------------------------------"
)
FAILED = (
    "------------------------ aborting loop EDIFF was not reached (unconverged)  ----------------------------"
)


def outcar(steps: Sequence[tuple[int, str]], nelm: int = 4) -> str:
    """OUTCAR of one copper atom: number of electronic iterations and last words of each step."""
    text = HEAD.format(nelm=nelm)
    for k, (iterations, words) in enumerate(steps, start=1):
        for i in range(1, iterations + 1):
            text += f"----------------------------- Iteration {k:6d}({i:4d})  ------------------------\n"
            text += "  Free energy of the ion-electron system (eV)\n"
        text += (
            f"{words}\n  direct lattice vectors                 reciprocal lattice vectors\n"
            "     2.0 0.0 0.0     0.5 0.0 0.0\n     0.0 2.0 0.0     0.0 0.5 0.0\n     0.0 0.0 2.0     0.0 0.0 0.5\n\n"
            " POSITION                                       TOTAL-FORCE (eV/Angst)\n"
            " -----------------------------------------------------------------------------------\n"
            f"      0.0 0.0 0.0     0.{k} 0.0 0.0\n"
            " -----------------------------------------------------------------------------------\n"
            "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n"
            f"  free  energy   TOTEN  =        -{k}.5 eV\n\n"
            f"  energy  without entropy=       -{k}.4  energy(sigma->0) =       -{k}.45\n\n"
        )
    return text


def vasprun(steps: Sequence[int], nelm: int = 4) -> str:
    cell = (
        '<structure><crystal><varray name="basis"><v>2 0 0</v><v>0 2 0</v><v>0 0 2</v></varray></crystal>\n'
        '<varray name="positions"><v>0 0 0</v></varray></structure>\n'
    )
    calculations = "".join(
        " <calculation>\n"
        + '  <scstep><energy><i name="e_fr_energy"> -3.6 </i><i name="e_wo_entrp"> -3.7 </i>'
        '<i name="e_0_energy"> -3.65 </i></energy></scstep>\n'
        * n
        + f'  {cell}  <varray name="forces"><v>0.{k} 0 0</v></varray>\n'
        f'  <energy><i name="e_fr_energy"> -{k}.6 </i><i name="e_wo_entrp"> -{k}.7 </i></energy>\n </calculation>\n'
        for k, n in enumerate(steps, start=1)
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
        f' <parameters><separator name="electronic"><i type="int" name="NELM">    {nelm}</i></separator></parameters>\n'
        ' <atominfo><array name="atoms"><set><rc><c>Cu</c><c>1</c></rc></set></array></atominfo>\n'
        ' <kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>\n'
        f"{cell.replace('<structure>', '<structure name=' + chr(34) + 'initialpos' + chr(34) + '>')}"
        f"{calculations}</modeling>\n"
    )


@pytest.mark.parametrize(
    ("steps", "kept"),
    [
        ([(3, REACHED), (2, REACHED)], [0, 1]),
        ([(4, REACHED), (4, FAILED), (2, REACHED)], [0, 2]),  # VASP 6
        ([(4, ""), (4, REACHED), (2, REACHED)], [1, 2]),  # VASP 5 says nothing of step 0
        ([(2, REACHED), (2, "---- aborting loop because hard stop was set ----")], [0]),
        ([(2, ""), (2, REACHED)], [0, 1]),  # neither said nor at the limit
    ],
)
def test_unconverged_steps_of_an_outcar_are_left_out(tmp_path: Path, steps: list, kept: list[int]) -> None:
    path = file(tmp_path, outcar(steps), "OUTCAR")
    frames, said = read_with_notes(path)
    assert [f.name for f in frames] == [f"{path}#{k}" for k in kept]
    assert [f.forces[0, 0] for f in frames] == [pytest.approx((k + 1) / 10) for k in kept]
    assert ("did not converge" in said) == (len(kept) < len(steps))
    assert read(path, frames=kept[-1])[0].name == f"{path}#{kept[-1]}"  # frames count as in the file


@pytest.mark.parametrize(("steps", "kept"), [([3, 2], [0, 1]), ([3, 4, 1], [0, 2]), ([4, 3], [1])])
def test_unconverged_steps_of_a_vasprun_are_left_out(
    tmp_path: Path, steps: list[int], kept: list[int]
) -> None:
    path = file(tmp_path, vasprun(steps), "vasprun.xml")
    frames, said = read_with_notes(path)
    assert [f.name for f in frames] == [f"{path}#{k}" for k in kept]
    assert ("did not converge" in said) == (len(kept) < len(steps))


def test_nothing_converged(tmp_path: Path) -> None:
    for name, text in (("OUTCAR", outcar([(4, FAILED)])), ("vasprun.xml", vasprun([4]))):
        with pytest.raises(InputError, match="the electronic structure of no frame converged") as failure:
            read_with_notes(file(tmp_path, text, name))
        assert name in str(failure.value)


@pytest.mark.parametrize(
    "words",
    [
        "convergence NOT achieved after 100 iterations: stopping", " *** WARNING: SCF run NOT converged ***",
        "SCF NOT CONVERGED AFTER 125 CYCLES", "Convergence failure -- run terminated.",
        "Calculation failed to converge",
        "** Self-consistency cycle not converged. **", "SCC is NOT converged, maximal SCC iterations exceeded",
    ],
)  # fmt: skip
def test_what_other_programs_say(tmp_path: Path, words: str) -> None:
    path = file(tmp_path, f"step 1\n{words}\nstep 2\n", "out")
    assert unconverged_images(path, "espresso-out", [True, False, True]) == {1}
    with pytest.raises(InputError, match="self-consistency did not converge"):
        unconverged_images(path, "espresso-out", [True, True])
    assert (
        unconverged_images(file(tmp_path, "convergence has been achieved", "ok"), "espresso-out", [False])
        == set()
    )


@pytest.mark.parametrize("flag", ["scf_converged=F", "SCF_converged=false", "electronic_converged=0"])
def test_frames_that_say_so_themselves(tmp_path: Path, flag: str) -> None:
    path = file(tmp_path, frame("energy=1") + frame(f"energy=2 {flag}") + frame("energy=3 scf_converged=T"))
    frames, said = read_with_notes(path)
    assert [f.energy for f in frames] == [1, 3]
    assert "#1: left out: its electronic structure did not converge" in said
    _, said = read_with_notes(file(tmp_path, frame("energy=1 converged=F")))
    assert "converged=F: leave the frame out" in said


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
@pytest.mark.parametrize(
    ("name", "text"), [("OUTCAR", outcar([(2, REACHED)])), ("vasprun.xml", vasprun([2]))]
)
def test_compressed_files_that_ase_reads(tmp_path: Path, name: str, text: str, suffix: str) -> None:
    compress = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}[suffix]
    path = file(tmp_path, compress(text.encode()), name + suffix)
    (only,) = read(path)
    assert only.name == f"{path}#0"
    assert only.forces.tolist() == [[0.1, 0, 0]]
    assert [p.name for p in tmp_path.iterdir()] == [name + suffix]
    file(tmp_path, compress(text.encode() * 40)[:-20], name + suffix)
    with pytest.raises(InputError, match=r"truncated|decompress"):
        read(path, format="vasp-out" if name == "OUTCAR" else "vasp-xml")
