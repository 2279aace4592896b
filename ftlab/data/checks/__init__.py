"""Data checks to run before training: duplicates, leaks, damage, personal data, lengths.

`check(...)` runs them all and returns a `Report`; each module holds related checks, as functions over `Examples` that
return findings. Importing the package loads nothing heavy.
"""

from ftlab.data.checks.finding import KINDS, Finding
from ftlab.data.checks.run import Report, check

__all__ = ["KINDS", "Finding", "Report", "check"]
