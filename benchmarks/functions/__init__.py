"""Functions that are measured, as a user writes them, each with its gradient written by hand.

No file here imports a differentiation package.
"""
