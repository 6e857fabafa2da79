"""Shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Tests import the helper modules of their own folder by their plain names.
sys.path[:0] = [str(folder) for folder in sorted(Path(__file__).parent.iterdir()) if folder.is_dir()]

# Ranks that wait for each other poll, and take the processor from those they wait for wherever there are more of them
# than processors, as beside other tests. MPICH sleeps for a moment instead.
os.environ.setdefault("MPIR_CVAR_CH4_PROGRESS_THROTTLE", "1")
os.environ.setdefault("MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT", "16")
