"""Computation graphs as in the lecture.

A topological sort with its call stack on show, graphs of gates that are evaluated forwards and
backwards, an explanation of every gate's little piece of the chain rule, and drawings.
"""

from .computational import ComputationalGraph
from .explanation import Explanation, GateExplanation
from .gates import Gate
from .topological import CycleError, Step, Trace, topological_sort

__all__ = [
    "ComputationalGraph",
    "CycleError",
    "Explanation",
    "Gate",
    "GateExplanation",
    "Step",
    "Trace",
    "topological_sort",
]
