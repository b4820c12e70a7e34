"""onnxruntime as on a CPU without VNNI."""

from __future__ import annotations

import pytest

from benchmarks.plain_path import PlainPath, Unavailable


@pytest.fixture(scope="session")
def plain_path(tmp_path_factory: pytest.TempPathFactory) -> PlainPath:
    """Runs models with VNNI hidden; skips, saying why, where that cannot be done."""
    try:
        return PlainPath(tmp_path_factory.mktemp("plain_path"))
    except Unavailable as error:
        pytest.skip(str(error))
