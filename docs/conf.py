"""Sphinx settings: `make docs`."""

from importlib.metadata import version as installed_version

project = "fastad"
author = copyright = "The fastad authors"
release = version = installed_version("fastad")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # README links to files that are not pages
autodoc_default_options = {"members": True}
autosummary_generate = True
numpydoc_show_class_members = False
html_theme = "alabaster"
html_theme_options = {"description": "Fast derivatives of plain Python and NumPy code"}
