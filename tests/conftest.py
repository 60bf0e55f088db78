"""What tests of more than one package need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    """A server with the bucket `tests.object_store.BUCKET`, and what reaches it, which is in the environment."""
    from tests.object_store import object_store  # slow, and few tests need it

    with object_store() as environment:
        yield environment
