"""The alignment check of the tables sees what it is for."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "check_table.py"
spec = importlib.util.spec_from_file_location("check_table", TOOL)
check_table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_table)

GOOD = """\
/* name  arity  value            doc */
/* ----  -----  ---------------  ------- */
OP(ADD,  2,     f(x, g(y, z)),   "a, (b")
/* a comment between rows */
OP(NEG,  1,     "(",             "b")
"""


def test_aligned():
    assert check_table.faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("ADD,  2", "ADD, 2", 3),
        ('"b")', ' "b")', 5),
        ("1,     ", "1,     0, ", 5),
        ("/* ----  -----  ---------------  ------- */", "/* ---- */", 3),
    ],
)
def test_misaligned(old, new, line):
    assert check_table.faults(GOOD.replace(old, new))[0][0] == line


def test_no_table():
    assert check_table.faults("int x;\n")
