"""What every test and every example in a docstring can count on."""

import os

import compiled
import numpy as np
import pytest
from hypothesis import settings

import fastad as fad

# No deadline: machines are shared. A sanitizer costs a factor of five, so it sees fewer examples.
settings.register_profile(
    "fastad", deadline=None, max_examples=25 if os.environ.get("FASTAD_SANITIZE") else 100
)
settings.load_profile("fastad")


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace):
    """Examples in docstrings know `fad` and `np`."""
    doctest_namespace.update(fad=fad, np=np)


@pytest.fixture
def rng():
    """A seeded generator: a failure today is a failure tomorrow."""
    return np.random.default_rng(20260101)


# Files whose cases are about functions and their derivatives run twice, the second time through
# fad.compile; a case about something else, such as how often f is called, is marked `one_shot`.
BOTH_WAYS = {
    "test_array",
    "test_function",
    "test_numpy_linalg",
    "test_numpy_products",
    "test_numpy_reductions",
    "test_numpy_shapes",
    "test_ops",
    "test_random_programs",
    "test_regressions",
    "test_special_values",
    "test_transforms",
}


def pytest_generate_tests(metafunc):
    if metafunc.module.__name__ in BOTH_WAYS:
        one_shot = any(metafunc.definition.iter_markers("one_shot"))
        ways = ["one-shot"] if one_shot else ["one-shot", "compiled"]
        metafunc.parametrize("how", ways, indirect=True)


@pytest.fixture(autouse=True)
def how(request, monkeypatch):
    """How derivatives are found: as the test says, or of the compiled function."""
    way = getattr(request, "param", "one-shot")
    if way == "compiled":
        compiled.patch(monkeypatch)
    return way
