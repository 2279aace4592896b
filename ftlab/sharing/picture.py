"""The comparison as one inline SVG: a bar for each side and measure, with its interval."""

from __future__ import annotations

from typing import Any

from ftlab.evaluation.verdict import number, percent, tenths

# Middle tones: each is told from white and from near black. Text takes the colour of the page.
BASE_COLOUR = "#8b95a7"
ADAPTED_COLOUR = "#4a86d8"

_WIDTH = 360
_BARS = 292
_BAR = 12
_BLOCK = 60
_LEGEND = 26


def comparison_chart_svg(comparison: dict[str, Any]) -> str:
    """Base against adapted, one block per measure, intervals as whiskers; readable on light and dark.

    The markup holds numbers and fixed words only, nothing from data or models. Place it inline, not as an <img>:
    its text takes the colour and font of the page.
    """
    blocks = _measures(comparison)
    height = _LEGEND + _BLOCK * len(blocks)
    spoken = "; ".join(f"{b['title']}: base {b['texts'][0]}, adapted {b['texts'][1]}" for b in blocks)
    body = "".join(_block(block, _LEGEND + _BLOCK * i) for i, block in enumerate(blocks))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" style="max-width:{_WIDTH + 80}px;height:auto" role="img" '
        f'aria-label="{spoken}" font-family="inherit" font-size="12" fill="currentColor">{_legend()}{body}</svg>'
    )


def _measures(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    base, adapted = comparison["base"], comparison["adapted"]
    rows = adapted["rows"]
    if adapted.get("exact_match", 0) is None:
        bits = _measure(base, adapted, "bits_per_byte", "Bits per byte", "lower is better", number, None)
        found = [_measure(base, adapted, "perplexity", "Perplexity", "lower is better", number, None), bits]
        return found + _general(base, adapted)
    found = [
        _measure(base, adapted, "exact_match", f"Exact match, % of {rows:,} rows", "higher is better", percent, 1.0),
        _measure(base, adapted, "bleu", "BLEU, 0 to 100", "higher is better", tenths, 100.0),
        _measure(base, adapted, "perplexity", "Perplexity", "lower is better", number, None),
    ]
    return found[:1] + _general(base, adapted) + found[1:]


def _general(base: dict[str, Any], adapted: dict[str, Any]) -> list[dict[str, Any]]:
    if base.get("general_accuracy") is None or adapted.get("general_accuracy") is None:
        return []
    title = f"General questions, % right of {adapted['general_rows']:,}"
    return [_measure(base, adapted, "general_accuracy", title, "a fall is forgetting", percent, 1.0)]


def _measure(
    base: dict[str, Any], adapted: dict[str, Any], name: str, title: str, note: str, write: Any, full: float | None
) -> dict[str, Any]:
    """`full` is the value of the whole width; None takes the largest value shown."""
    key = {"general_accuracy": "general_interval"}.get(name, f"{name}_interval")
    values, intervals = [base[name], adapted[name]], [base.get(key), adapted.get(key)]
    full = full or max([*values, 1e-9])
    # An interval may reach beyond the picture; the whisker then ends at its edge.
    scaled = [[min(1.0, max(0.0, end / full)) for end in interval] if interval else None for interval in intervals]
    return {
        "title": title,
        "note": note,
        "shares": [min(1.0, value / full) for value in values],
        "intervals": scaled,
        "texts": [write(value) for value in values],
    }


def _legend() -> str:
    def key(x: int, colour: str, text: str) -> str:
        square = f'<rect x="{x}" y="3" width="11" height="11" rx="3" fill="{colour}"/>'
        return f'{square}<text x="{x + 17}" y="13">{text}</text>'

    whisker = '<path d="M156 8.5h20M156 4.5v8M176 4.5v8" stroke="currentColor" stroke-opacity=".6" fill="none"/>'
    return (
        key(0, BASE_COLOUR, "base")
        + key(70, ADAPTED_COLOUR, "adapted")
        + whisker
        + '<text x="183" y="13" fill-opacity=".75">95% interval</text>'
    )


def _block(block: dict[str, Any], top: int) -> str:
    title = f'<text x="0" y="{top + 14}" font-weight="600">{block["title"]}</text>'
    note = f'<text x="{_WIDTH}" y="{top + 14}" text-anchor="end" fill-opacity=".65">{block["note"]}</text>'
    bars = ""
    for i, colour in enumerate((BASE_COLOUR, ADAPTED_COLOUR)):
        y = top + 21 + i * (_BAR + 4)
        width = _BARS * block["shares"][i]
        bars += f'<rect x="0" y="{y}" width="{_BARS}" height="{_BAR}" rx="3" fill="currentColor" fill-opacity=".07"/>'
        if width:
            bars += f'<rect x="0" y="{y}" width="{max(width, 2):.1f}" height="{_BAR}" rx="3" fill="{colour}"/>'
        if block["intervals"][i]:
            low, high = (_BARS * end for end in block["intervals"][i])
            middle = y + _BAR / 2
            bars += (
                f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 3.5}v7M{high:.1f} {middle - 3.5}v7" '
                'stroke="currentColor" stroke-opacity=".6" fill="none"/>'
            )
        weight = ' font-weight="600"' if i else ""
        bars += f'<text x="{_WIDTH}" y="{y + _BAR - 2}" text-anchor="end"{weight}>{block["texts"][i]}</text>'
    return title + note + bars
