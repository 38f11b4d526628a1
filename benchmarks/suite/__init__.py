"""The asv suite: how fastad itself changes from commit to commit.  Peers are in ``compare.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
