"""Base and adapted model side by side, and the report, in a Space."""

import contextlib
from pathlib import Path

with contextlib.suppress(ImportError):
    import spaces  # noqa: F401  ZeroGPU: before torch and gradio

from ftlab.ui.space.demo import serve_demo

serve_demo(Path(__file__).parent / "run")
