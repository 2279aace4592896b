"""Blind tests: contestants answer, raters vote without knowing the authors, and a verdict summarizes the votes."""
