"""What a test registers is gone after it."""

from collections.abc import Iterator

import pytest

from metaward.client.shipping import REGISTRIES


@pytest.fixture(autouse=True)
def nothing_stays_registered() -> Iterator[None]:
    plugins = [r.plugins for r in REGISTRIES if r.plugins]
    before = [(dict(p.registered), dict(p.entries)) for p in plugins]
    yield
    for plugin, (registered, entries) in zip(plugins, before, strict=True):
        for kept, now in ((registered, plugin.registered), (entries, plugin.entries)):
            now.clear()
            now.update(kept)
