"""A report as one HTML page: what comes in is text, what it does not name is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftlab.sharing.measures import unbroken


def render_page(template: str, **values: Any) -> str:
    """The page that the Jinja2 `template` of this folder makes of `values`. Only `markupsafe.Markup` is not escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = unbroken
    return environment.get_template(template).render(**values)
