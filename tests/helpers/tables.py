"""Reads the tables that benchmark.py prints."""

import re


def table_rows(table):
    """The rows of tables in text: pairs of label and numbers."""
    found = re.findall(r"^(\S.*?)((?:\s{2,}(?:[-\d.]+|inf|n/a))+)$", table, re.M)
    return [(label, [float(cell) for cell in cells.split() if cell != "n/a"]) for label, cells in found]


def rows(table):
    """The same by their labels."""
    return dict(table_rows(table))
