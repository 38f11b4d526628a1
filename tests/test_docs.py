"""The documents are true: their code runs and shows what it does, their links and names exist."""

import ast
import doctest
import re
from pathlib import Path

import numpy as np
import pytest

import fastad as fad
from fastad import _core
from fastad._ops import UFUNCS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    document.relative_to(ROOT) for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
HISTORY = {"CHANGELOG.md"}  # may name what is no more
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text):
    """(line, source) of every ```python block."""
    for block in PYTHON_BLOCK.finditer(text):
        yield text.count("\n", 0, block.start()) + 1, block[1]


def asserts(node):
    """An assert statement, or a function that is one."""
    return isinstance(node, ast.Assert) or getattr(node, "attr", "") == "check_grads"


def shows_something(source):
    """Whether a block has output that is compared, asserts something, or only defines things."""
    if ">>>" in source:
        examples = doctest.DocTestParser().get_examples(source)
        if any(example.want for example in examples):
            return True
        source = "".join(example.source for example in examples)
    tree = ast.parse(source)
    if any(asserts(node) for node in ast.walk(tree)):
        return True
    return all(isinstance(statement, DEFINITIONS) for statement in tree.body)


def run(source, names, path, line):
    """A block with prompts gives the output shown, one without runs."""
    if ">>>" not in source:
        exec(compile("\n" * line + source, str(path), "exec"), names)
        return
    example = doctest.DocTestParser().get_doctest(source, names, str(path), None, line)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    assert runner.run(example, clear_globs=False).failed == 0
    names.update(example.globs)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_code_runs(path):
    """All blocks of a document in order, in one namespace that holds nothing at the start."""
    names = {"__name__": "__document__"}
    for line, source in blocks(read(path)):
        run(source, names, path, line)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_code_shows_what_it_does(path):
    silent = [line for line, source in blocks(read(path)) if not shows_something(source)]
    assert silent == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_links_lead_somewhere(path):
    links = [link for link in LINK.findall(read(path)) if "://" not in link]
    assert [link for link in links if not (ROOT / path.parent / link).exists()] == []


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p.name not in HISTORY], ids=str)
def test_public_names_exist(path):
    names = set(re.findall(r"\bfad\.([A-Za-z]\w*)", read(path)))
    assert [name for name in sorted(names) if not hasattr(fad, name)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_verbs_exist(path):
    verbs = set(re.findall(r"`make ([a-z]\w*)", read(path)))
    rules = set(re.findall(r"^(\w[\w-]*):", read("Makefile"), re.MULTILINE))
    assert verbs <= rules


def listed_functions():
    """The NumPy functions that the user guide lists, as objects."""
    text = read("docs/user-guide.md").split("<!-- rules -->")[1].split("<!-- end -->")[0]
    for line in re.sub(r"\n  +", " ", text).strip().splitlines():
        family, names = line.removeprefix("- ").split(": ")
        module = np.linalg if family == "numpy.linalg" else np
        yield from (getattr(module, name) for name in names.split())


def test_the_user_guide_lists_every_rule():
    import fastad.numpy  # noqa: F401  (registers them)

    rules = {rule for rule in (*_core.FUNCTIONS, *UFUNCS) if not isinstance(rule, tuple)}
    listed = set(listed_functions())
    names = {"without a rule": listed - rules, "not listed": rules - listed}
    assert {k: sorted(f.__name__ for f in v) for k, v in names.items() if v} == {}


# --- the checker is checked ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "shows"),
    [
        (">>> 1 + 1\n2\n", True),
        (">>> x = 1\n>>> x + 1\n2\n", True),
        (">>> x = 1\n", True),
        (">>> print\n", False),
        ("import math\n\ndef f(x):\n    return x\n", True),
        ("f(1)\n", False),
        (">>> fad.check_grads(f, (1.0,))\n", True),
        ("for x in range(3):\n    assert x < 3\n", True),
    ],
)
def test_what_shows_something(source, shows):
    assert shows_something(source) is shows


def test_a_wrong_output_is_caught():
    with pytest.raises(AssertionError):
        run(">>> 1 + 1\n3\n", {}, "planted", 1)


def test_every_block_is_found():
    text = "text\n```python\n>>> 1\n1\n```\n```text\nnothing\n```\n```python\nx = 1\n```\n"
    assert list(blocks(text)) == [(2, ">>> 1\n1\n"), (9, "x = 1\n")]
