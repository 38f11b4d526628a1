"""The drawings of a computation graph. A drawer is imported when its drawing is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from .picture import Picture
from .portrait import portrait

if TYPE_CHECKING:
    from .computational import ComputationalGraph


class Drawable:
    """What `ComputationalGraph` can be shown as."""

    def to_svg(self) -> str:
        """Draw as SVG, left to right: values above the edges, gradients below.

        Raises
        ------
        ImportError
            Without the layout library, which ``pip install fastad[graph]`` brings.
        """
        from .svg import to_svg

        return to_svg(self._picture())

    def to_text(self) -> str:
        """Draw with characters; needs the layout library too."""
        from .textual import to_text

        return to_text(self._picture())

    def to_dot(self) -> str:
        """Write in the DOT language of Graphviz; needs no library."""
        from .dot import to_dot

        return to_dot(self._picture())

    def draw(self, path: str | Path) -> None:
        """Write a drawing to a file that ends in .svg, .dot or .txt."""
        path = Path(path)
        drawers = {".svg": self.to_svg, ".dot": self.to_dot, ".txt": self.to_text}
        if path.suffix not in drawers:
            raise ValueError(f"{path.name}: a drawing ends in one of {', '.join(drawers)}")
        path.write_text(drawers[path.suffix](), encoding="utf-8")

    def _repr_svg_(self) -> str | None:
        try:
            return self.to_svg()
        except ImportError:  # a notebook then shows the repr
            return None

    def _picture(self) -> Picture:
        return portrait(cast("ComputationalGraph", self))
