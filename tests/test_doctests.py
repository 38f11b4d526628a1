"""Every example runs: in the docstrings of the installed package, and in the documents."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import fastad as fad

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    document.relative_to(ROOT)
    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def modules():
    """Name of the package and of every module in it; `__main__` would run the command line."""
    found = pkgutil.walk_packages(fad.__path__, "fastad.")
    return ["fastad", *(module.name for module in found if not module.name.endswith("__main__"))]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name):
    module = importlib.import_module(name)
    names = {"fad": fad, "np": np}
    failed, _ = doctest.testmod(module, extraglobs=names, optionflags=FLAGS)
    assert failed == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_documents(path):
    """A ```python block with prompts gives the output shown, one without runs; one namespace."""
    text = (ROOT / path).read_text(encoding="utf-8")
    names = {"fad": fad, "np": np, "__name__": "__document__"}
    for block in PYTHON_BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        if ">>>" in block[1]:
            example = doctest.DocTestParser().get_doctest(block[1], names, str(path), None, line)
            runner = doctest.DocTestRunner(optionflags=FLAGS)
            assert runner.run(example, clear_globs=False).failed == 0
            names.update(example.globs)
        else:
            exec(compile("\n" * line + block[1], str(path), "exec"), names)
