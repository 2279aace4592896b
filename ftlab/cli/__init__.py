"""The command line: `python -m ftlab ...`, the same functions as the tabs and the notebooks."""
