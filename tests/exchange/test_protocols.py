from itertools import pairwise

import pytest

from knexa.exchange.protocols import AKD, Logits


def test_schedules_run_from_the_papers_start_to_its_end():
    akd = AKD()
    assert akd.alpha(1, 20) == 0.2
    assert akd.alpha(20, 20) == pytest.approx(0.5)
    assert akd.temperature(1, 20) == 1.5
    assert akd.temperature(20, 20) == pytest.approx(2.5)
    steps = [akd.alpha(t, 20) for t in range(1, 21)]
    assert [b - a for a, b in pairwise(steps)] == pytest.approx([0.3 / 19] * 19)


def test_a_single_round_takes_the_start():
    assert AKD().alpha(1, 1) == 0.2


def test_the_temperature_of_logits_softens_and_does_not_sample():
    logits = Logits()
    assert logits.temperature(20, 20) == pytest.approx(2.5)
    assert logits.decoding_temperature(20, 20) == 0.0
    assert AKD().decoding_temperature(20, 20) == pytest.approx(2.5)
