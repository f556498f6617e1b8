"""Generates the operations and models before the package is built or installed; pyproject.toml has all the rest."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))
import generate

# A source distribution carries what was generated, and not the document.
if generate.DOCUMENT.exists():
    generate.main()

setup()
