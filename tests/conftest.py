"""What every test and every example in a docstring can count on."""

import os

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
