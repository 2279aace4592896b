"""Blind tests: contestants answer, raters vote without knowing whose answers they are, and a verdict sums it up."""
