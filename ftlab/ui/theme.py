"""One calm theme, light and dark, that uses only fonts installed on the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

STYLE_FILE = Path(__file__).with_name("style.css")

# Light or dark as chosen before; by default, the system's setting. If ftlab does not answer, the page says so: it asks
# every second.
HEAD = """
<script>
(() => {
  const choose = () => {
    let kept = null;
    try { kept = localStorage.getItem('ftlab-theme'); } catch (error) { /* no storage: follow the system */ }
    if (kept) document.body.classList.toggle('dark', kept === 'dark');
  };
  const start = () => {
    choose();
    // Gradio sets the class once more when it starts.
    new MutationObserver(choose).observe(document.body, {attributes: true, attributeFilter: ['class']});
  };
  if (document.body) start(); else document.addEventListener('DOMContentLoaded', start);
  const ask = window.fetch;
  const away = gone => document.documentElement.toggleAttribute('data-away', gone);
  window.fetch = async (...request) => {
    try {
      const reply = await ask(...request);
      away(false);
      return reply;
    } catch (error) {
      if (error.name === 'TypeError') away(true);  // no network or no server; not an end by the page itself
      throw error;
    }
  };
})();
</script>
"""
SWITCH_THEME = """
() => {
  const dark = !document.body.classList.contains('dark');
  try { localStorage.setItem('ftlab-theme', dark ? 'dark' : 'light'); } catch (error) { /* not kept */ }
  document.body.classList.toggle('dark', dark);
}
"""
# The address contains the tab, so a reload returns to it.
KEEP_TAB = """
() => setTimeout(() => {
  const button = document.querySelector('#tabs button[role=tab][aria-selected=true]');
  if (!button) return;
  const url = new URL(window.location);
  url.searchParams.set('tab', button.id.replace(/^tab_/, '').replace(/-button$/, ''));
  window.history.replaceState(null, '', url);
}, 50)
"""


def plain_page() -> dict[str, Any]:
    """Launch arguments of every ftlab page: its style, with Gradio's telemetry and storage turned off."""
    return {
        "theme": theme(),
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "show_error": False,
    }


def theme() -> gr.themes.Base:
    """System fonts only: fonts from another host would fail offline and reveal the reader to that host."""
    font = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        secondary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=font,
        font_mono=mono,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_label_background_fill="transparent",
        block_shadow="none",
        input_background_fill="white",
        input_background_fill_dark="*neutral_800",
        input_border_width="1px",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_600",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
    )
