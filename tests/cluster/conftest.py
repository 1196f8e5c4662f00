"""What more than one file of this tier shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import gateway_server


@pytest.fixture(scope="session")
def gateway() -> Iterator[str]:
    """`namespace/name` of a Gateway that takes routes of all namespaces: see `gateway_server`."""
    with gateway_server.gateway() as name:
        yield name
