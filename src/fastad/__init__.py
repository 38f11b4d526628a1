"""fastad: gradients of plain Python and NumPy code on a flat C tape."""
from fastad import _core, _ops, _reverse
