"""Who changes data: a name that the browser keeps, shared by the panels of the Data tab."""

from __future__ import annotations

KEY = "ftlab-who"
BUSY = "busy"  # the page must not be drawn anew: nothing has changed, or somebody writes in it


def remembered(inputs: int, place: int) -> str:
    """Script that puts the kept name in the `place` of `inputs` values."""
    return f"""(...values) => {{
      const all = values.slice(0, {inputs});
      try {{ all[{place}] = localStorage.getItem('{KEY}') || all[{place}]; }} catch (error) {{ /* nothing is kept */ }}
      return all;
    }}"""


def remember(inputs: int, place: int, tell: int) -> str:
    """Script that keeps the name, and lets a press that took the focus away from the box go first.

    The value at `tell` becomes BUSY when the name is the one of before or a row is being edited.
    """
    return f"""async (...values) => {{
      const all = values.slice(0, {inputs});
      let same = false;
      try {{
        same = (localStorage.getItem('{KEY}') || '') === (all[{place}] || '');
        localStorage.setItem('{KEY}', all[{place}] || '');
      }} catch (error) {{ /* nothing is kept */ }}
      if (!same) await new Promise(done => setTimeout(done, 500));
      if (same || document.querySelector('#data_curate_row .ft-edit')) all[{tell}] = '{BUSY}';
      return all;
    }}"""
