"""The teacher's own energies and forces of frames, and its seconds: ``python -I teacher.py FRAMES.xyz OUT.json``.

It runs in the teacher's environment, which need not have nnpkit. The calculator is made once and has looked at the
first frame before its time is taken.
"""

import json
import sys
import time

from ase.io import read
from chgnet.model.dynamics import CHGNetCalculator

frames = read(sys.argv[1], ":")
calculator = CHGNetCalculator(use_device="cpu")
calculator.calculate(frames[0], ["energy"], [])
found, began = [], time.monotonic()
for atoms in frames:
    atoms.calc = calculator
    found.append({"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces().tolist()})
seconds = time.monotonic() - began
with open(sys.argv[2], "w", encoding="utf-8") as stream:
    json.dump({"seconds": seconds, "frames": found}, stream)
