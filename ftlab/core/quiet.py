"""Library settings for every process of ftlab: no output that users cannot act on, and caches of limited size."""

from __future__ import annotations

import logging
import os
import warnings

_LIBRARIES = "transformers|trl|peft|accelerate|datasets|huggingface_hub|bitsandbytes|torch"
# Progress bars of quick downloads and loads, and the notice that parts of TRL may change.
_SETTINGS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
# oneDNN and torch cache a compiled kernel for each shape of a product: up to 1,024, about 1 MB each in bf16, which
# batches of varying length fill within a hundred steps. A step needs about twenty.
CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def quieten() -> None:
    """Silence the libraries; call it before they are imported. Variables that the user has set are kept.

    Only progress bars, deprecations and missing extras are silenced. Warnings that a result may be wrong (UserWarning
    of torch, "silently incorrect") and those of transformers' own log stay.
    """
    for name, value in (_SETTINGS | CACHES).items():
        os.environ.setdefault(name, value)
    # The notice that a faster 4-bit kernel could be downloaded.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # The notice that a request to the Hub is retried; the final error says what came of it.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    for kind in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=kind, module=rf"({_LIBRARIES})(\.|$)")
