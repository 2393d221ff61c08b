"""A seeded share of the command lines that ``make fuzz`` tries: no mistake costs a traceback."""

import pytest

from tests.config.config_fuzz import fuzz

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_command_line_is_built_or_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = fuzz(100, seed=4)
    assert figures["broken"] == {}
    assert min(figures["came_to"].get(kind, 0) for kind in ("built", "refused")) >= 20
    assert list(tmp_path.iterdir()) == []
