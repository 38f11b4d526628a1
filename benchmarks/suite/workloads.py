"""Functions of the public suites, compiled.  The peers are in ``compare.py workloads``."""

import importlib
import os
import re

from workloads import WORKLOADS

ALL_SIZES = bool(os.environ.get("FASTAD_BENCH_ALL_SIZES"))


def _prepared(name, size):
    """A new transform and its data; skipped by asv at commits that lack what it needs."""
    try:
        adapter = importlib.import_module("workloads.contenders.with_fastad")
    except ImportError as error:
        raise NotImplementedError(str(error)) from error
    workload = WORKLOADS[name]
    lengths = tuple(map(int, re.findall(r"\d+", size)))
    return adapter.prepare(workload, workload.data(lengths), "compiled")


class _Workload:
    """A workload at its smallest size, or with FASTAD_BENCH_ALL_SIZES=1 at each."""

    name = ""
    param_names = ("size",)
    timeout = 120.0

    def setup(self, size):
        """Compiled, and called once."""
        self.call = _prepared(self.name, size).call
        self.call()

    def time_gradient(self, _size):
        """A call."""
        self.call()

    def time_function_to_first_gradient(self, size):
        """Recorded and compiled at every call."""
        _prepared(self.name, size).call()

    def peakmem_function_to_first_gradient(self, size):
        """Recorded and compiled."""
        _prepared(self.name, size).call()


def _sizes(name):
    sizes = WORKLOADS[name].sizes
    return [", ".join(map(str, size)) for size in (sizes if ALL_SIZES else sizes[:1])]


for _name in WORKLOADS:
    _class = type(_name.capitalize(), (_Workload,), {"name": _name, "params": _sizes(_name)})
    globals()[_class.__name__] = _class
del _class
