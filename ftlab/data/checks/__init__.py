"""What is wrong with a data set, found before a GPU is spent on it: duplicates, leaks, damage, personal data, lengths.

`check(...)` runs everything and gives a `Report`; each module holds the checks of one meaning, as functions over
`Examples` that return findings. Importing the package loads nothing heavy.
"""

from ftlab.data.checks.finding import KINDS, Finding
from ftlab.data.checks.run import Report, check

__all__ = ["KINDS", "Finding", "Report", "check"]
