"""The version of the project, stated once; setup.py reads it from here."""

__version__ = "0.1.0"
