"""Presentation of a comparison: a one-page report for decision makers, tables, charts, the notebook of a run."""
