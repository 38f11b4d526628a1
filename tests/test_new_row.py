"""A primitive is one row: a row more in csrc/ops.def, built, passes every test of the table.

Nothing else is edited. A second row, with a wrong derivative, must fail in every reading.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from readings import FIRST

ROOT = Path(__file__).parent.parent
PARTS = ["csrc", "src", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE"]
LITTER = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", "*.egg-info", "build")

# NumPy has these two, and the table does not.
RIGHT = """\
OP(FLOAT_POWER, "float_power", 2, SMOOTH, pow(x, y), MUL(Y, POW(X, SUB(Y, ONE))), MUL(V, LOG(X)), \
NONE, "positive", "real", NO, "power of floats")
"""
WRONG = """\
OP(CONJUGATE, "conjugate", 1, LINEAR, x, NEG(ONE), NONE, NONE, "real", "", NO, \
"planted: wrong sign")
"""


def run(folder, *command):
    """The finished process; without what a sanitizer run of the suite itself puts around it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FASTAD_", "LD_"))}
    environment.update(PYTHONPATH=str(folder / "src"), FASTAD_DEBUG="1", PYTEST_ADDOPTS="")
    command = [sys.executable, *command]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def build_with_both_rows(folder):
    """Make `folder` a copy of the sources with the two rows, built in place."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=LITTER)
        else:
            shutil.copy(ROOT / part, folder / part)
    table = folder / "csrc" / "ops.def"
    end = "/* clang-format on */"
    text = table.read_text(encoding="utf-8")
    assert text.count(end) == 1
    table.write_text(text.replace(end, RIGHT + WRONG + end), encoding="utf-8")
    built = run(folder, "setup.py", "--quiet", "build_clib", "build_ext", "--inplace")
    assert built.returncode == 0, f"needs setuptools, Cython and a C compiler:\n{built.stderr}"


def table_tests(folder, name):
    """(names of the tests of a row that failed, number of those that passed, all that was said)."""
    options = ["-q", "--tb=line", "-rf", "-p", "no:cacheprovider", "-o", "addopts="]
    done = run(folder, "-m", "pytest", *options, "tests/test_ops.py", "-k", name)
    failed = re.findall(r"^FAILED \S*::(\S+)", done.stdout, re.MULTILINE)
    passed = re.search(r"(\d+) passed", done.stdout)
    return set(failed), int(passed[1]) if passed else 0, done.stdout + done.stderr


def passes_every_test(folder):
    failed, passed, said = table_tests(folder, "FLOAT_POWER")
    assert not failed and passed > 30, said


def serves_python_and_numpy(folder):
    code = (
        "import numpy as np, fastad as fad\n"
        "print(fad.OPS['FLOAT_POWER'].doc)\n"
        "print(fad.grad(np.float_power)(3.0, 2.0), fad.grad(fad.float_power)(3.0, 2.0))\n"
        "print(fad.grad(fad.grad(np.float_power))(3.0, 2.0))\n"
    )
    done = run(folder, "-c", code)
    assert done.stdout.split("\n") == ["power of floats", "6.0 6.0", "2.0", ""], done.stderr


def fails_in_every_reading(folder):
    failed, _, said = table_tests(folder, "CONJUGATE")
    for how in ("one-shot", "compiled"):
        readings = {f"test_first_order[{how}-{reading.__name__}-CONJUGATE]" for reading in FIRST}
        assert readings | {f"test_broadcasting[{how}-CONJUGATE]"} <= failed, said


@pytest.mark.slow
def test_a_row_is_all_it_takes(tmp_path):
    """One test, for the build takes most of its time."""
    build_with_both_rows(tmp_path)
    passes_every_test(tmp_path)
    serves_python_and_numpy(tmp_path)
    fails_in_every_reading(tmp_path)
