"""The name of the person who edits data. The browser keeps it, and the panels of the Data tab share it."""

from __future__ import annotations

KEY = "ftlab-who"


def remembered(inputs: int, place: int) -> str:
    """Script that inserts the stored name at index `place` of `inputs` values."""
    return f"""(...values) => {{
      const all = values.slice(0, {inputs});
      try {{ all[{place}] = localStorage.getItem('{KEY}') || all[{place}]; }} catch (error) {{ /* nothing is kept */ }}
      return all;
    }}"""


def remember(then: str = "") -> str:
    """Script that stores the name. If it changed, the script presses the button `then` after a short delay: the press
    that
    took the focus from the box runs first, and a row being edited stays."""
    press = f"""if (!same && '{then}') setTimeout(() => {{
        if (!document.querySelector('#data_curate_row .ft-edit')) document.querySelector('{then}')?.click();
      }}, 500);"""
    return f"""name => {{
      let same = false;
      try {{
        same = (localStorage.getItem('{KEY}') || '') === (name || '');
        localStorage.setItem('{KEY}', name || '');
      }} catch (error) {{ /* nothing is kept */ }}
      {press if then else ""}
    }}"""
