"""How many rounds the long part goes, and from which seed."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--rounds", type=int, default=10, help="how often the long chaos tests do harm")
    group.addoption("--chaos-seed", type=int, default=0, help="what their moments are drawn from")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--rounds")


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--chaos-seed")
