"""Shared by all tests."""

from __future__ import annotations

import sys
from pathlib import Path

# Tests import the helper modules of their own folder by their plain names.
sys.path[:0] = [str(folder) for folder in sorted(Path(__file__).parent.iterdir()) if folder.is_dir()]
