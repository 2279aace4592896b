"""Who changes data: a name that the browser keeps, shared by the panels of the Data tab."""

from __future__ import annotations

KEY = "ftlab-who"


def remembered(inputs: int, place: int) -> str:
    """Script that puts the kept name in the `place` of `inputs` values."""
    return f"""(...values) => {{
      const all = values.slice(0, {inputs});
      try {{ all[{place}] = localStorage.getItem('{KEY}') || all[{place}]; }} catch (error) {{ /* nothing is kept */ }}
      return all;
    }}"""


def remember(then: str = "") -> str:
    """Script that keeps the name. When it is another one, the button `then` is pressed a moment later: the press that
    took the focus away from the box goes first, and a row that is being edited stays."""
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
