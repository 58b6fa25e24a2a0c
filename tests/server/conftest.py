"""A browser for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.privacy.report.report_browser import Browser, browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not on the PATH: apt install chromium")
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found
