"""Import time."""

import subprocess
import sys

TIMED_IMPORT = """
import numpy
from time import perf_counter
start = perf_counter()
import fastad
print(perf_counter() - start)
"""


class Import:
    """Whole interpreters, as a user starts them; the empty one is the floor."""

    params = ("pass", "import numpy", "import fastad")
    param_names = ("statement",)
    number = 1

    def time_interpreter(self, statement):
        """Start, run the statement, end."""
        subprocess.run([sys.executable, "-c", statement], check=True)


def track_import_over_numpy():
    """Milliseconds that ``import fastad`` takes when numpy is already there; best of 15."""
    command = [sys.executable, "-c", TIMED_IMPORT]
    runs = (subprocess.run(command, check=True, capture_output=True) for _ in range(15))
    return min(float(run.stdout) for run in runs) * 1e3


track_import_over_numpy.unit = "ms"
