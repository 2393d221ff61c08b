import inspect
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from knexa.config.components import instantiate
from knexa.protocols.akd import AKD
from knexa.protocols.logits import Logits


def test_schedules_run_from_the_papers_start_to_its_end():
    akd = AKD()
    assert akd.alpha(1, 20) == 0.2
    assert akd.alpha(20, 20) == pytest.approx(0.5)
    assert akd.decoding_temperature(1, 20) == 1.5
    assert akd.decoding_temperature(20, 20) == pytest.approx(2.5)
    steps = [akd.alpha(t, 20) for t in range(1, 21)]
    assert [b - a for a, b in pairwise(steps)] == pytest.approx([0.3 / 19] * 19)


def test_a_single_round_takes_the_start():
    assert AKD().alpha(1, 1) == 0.2


def test_the_temperature_of_logits_softens_and_does_not_sample():
    logits = Logits()
    assert logits.temperature(20, 20) == pytest.approx(2.5)
    assert logits.decoding_temperature(20, 20) == 0.0
    assert AKD().decoding_temperature(20, 20) == pytest.approx(2.5)


CONF = Path(__file__).parents[2] / "conf" / "exchange"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_option_is_named_after_its_protocol_and_names_every_parameter(path):
    node = yaml.safe_load(path.read_text())
    values = {"exchange_steps": 6, "exchange_problems": None}
    plain = {
        key: values[value[:-1].rpartition(".")[2]] if str(value).startswith("${") else value
        for key, value in node.items()
    }
    protocol = instantiate(plain, key="exchange")
    assert protocol.name == path.stem
    assert set(node) == {"_target_", *inspect.signature(type(protocol)).parameters}
