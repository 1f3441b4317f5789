"""What tests of inspection share."""

import pytest


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written without their pictures, which take longest: what is tested is in the figures."""
    monkeypatch.setattr("sb3_attnmem.inspection.memory.sections.sections_of", lambda *found: [])
