"""Generates the operations and models before the package is built or installed; pyproject.toml has all the rest."""

import runpy
from pathlib import Path

from setuptools import setup

generate = runpy.run_path(str(Path(__file__).with_name("generate.py")))
# A source distribution carries what was generated, and not the document.
if generate["DOCUMENT"].exists():
    generate["main"]()

setup()
