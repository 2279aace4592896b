"""What the pictures of comparisons and votes are drawn with: inline SVG in the font and colour of the page around it.

Place them inline, not as an <img>. No script, no other host; names come from people and data and are escaped. Our own
instead of a plotting library: a picture is 2 kB, reads on light and dark, and needs nothing where the page is opened.
"""

from __future__ import annotations

from markupsafe import Markup

# Middle tones: each is told from white and from near black.
BASE_COLOUR, ADAPTED_COLOUR = "#8b95a7", "#4a86d8"


def svg(width: int, height: float, spoken: str, body: Markup, *, widest: int) -> Markup:
    """A picture of `width` by `height` that grows with its box up to `widest` pixels; `spoken` is what it says."""
    return Markup(
        '<svg viewBox="0 0 {} {}" width="100%" style="max-width:{}px;height:auto" role="img" aria-label="{}" '
        'font-family="inherit" font-size="12" fill="currentColor">{}</svg>'
    ).format(width, round(height), widest, spoken, body)


def whisker(low: float, high: float, y: float) -> Markup:
    """An interval from x `low` to `high`, with its ends marked."""
    return Markup(
        '<path d="M{0:.1f} {2}H{1:.1f}M{0:.1f} {3}v8M{1:.1f} {3}v8" stroke="currentColor" stroke-opacity=".7" '
        'fill="none"/>'
    ).format(low, high, y, y - 4)


def cut(text: str, most: int) -> str:
    """`text` in at most `most` characters, for a label."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
