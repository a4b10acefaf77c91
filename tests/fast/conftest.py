"""Kernels are tested with ATRANK_KERNELS=0 too: it says what the other tests run with."""

from __future__ import annotations

import pytest

from atrank_lib.fast import kernels


@pytest.fixture(autouse=True)
def kernels_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_on", True)
    monkeypatch.delenv("ATRANK_KERNELS", raising=False)
