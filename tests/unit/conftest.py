"""What several unit tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_runs import make_base


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base with random weights."""
    return make_base(tmp_path_factory.mktemp("base"))
