"""What every test and every example in a docstring can count on."""

import numpy as np
import pytest

import fastad as fad


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace):
    """Examples in docstrings know `fad` and `np`."""
    doctest_namespace.update(fad=fad, np=np)


@pytest.fixture
def rng():
    """A seeded generator: a failure today is a failure tomorrow."""
    return np.random.default_rng(20260101)
