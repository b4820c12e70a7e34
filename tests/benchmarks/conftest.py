from __future__ import annotations

import sys
from pathlib import Path

# The suite is a package at the root of the source tree, which plain `pytest` does not put on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
