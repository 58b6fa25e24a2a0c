"""Federated meta-learning for hospitals: private few-shot tasks, a shared initialisation."""

from __future__ import annotations

from pathlib import Path

# The folders of this package are at the top of the repository: client, privacy, strategies, server.
# A checkout links to them and an installation holds them here; Flower's bundles leave links out,
# so there the folders are found beside this one.
_HERE = Path(__file__).resolve().parent
if not (_HERE / "client").is_dir():
    __path__.append(str(_HERE.parent))
