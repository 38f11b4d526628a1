"""Computation graphs as in the lecture.

A topological sort with its call stack on show, graphs of gates that are evaluated forwards and
backwards, an explanation of every gate's little piece of the chain rule, and drawings.
"""

from .topological import CycleError, Step, Trace, topological_sort

__all__ = ["CycleError", "Step", "Trace", "topological_sort"]
