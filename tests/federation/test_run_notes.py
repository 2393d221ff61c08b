from types import SimpleNamespace

from knexa.agents.byzantine import ByzantineAgents
from knexa.agents.training import DPTraining, Training
from knexa.federation.llm.settings import LLM
from knexa.federation.run_notes import run_notes
from knexa.federation.simulated_network.faults import Faults
from knexa.profiles.privacy import Gaussian, NoPrivacy

NAMES = ("ann", "bob", "cy")
RATES = {"local_learning_rate": 1e-3, "kd_learning_rate": 1e-3}


def lines(byzantine=None, privacy=None, training=None, **federation):
    settings = SimpleNamespace(
        federation=LLM(num_rounds=3, **federation),
        privacy=privacy or NoPrivacy(),
        training=training,
    )
    return run_notes(settings, byzantine or ByzantineAgents(), NAMES)


def test_an_ordinary_run_has_no_conditions():
    assert lines(training=Training(**RATES)) == ()


def test_byzantine_agents_are_named_with_what_they_do():
    one = ByzantineAgents(members=(1,), attacks=frozenset({"wrong"}))
    two = ByzantineAgents(members=(2, 0), attacks=frozenset({"wrong", "forged"}))
    assert lines(one) == ("bob lies: wrong",)
    assert lines(two) == ("cy, ann lie: forged, wrong",)


def test_only_faults_that_can_strike_are_told():
    faults = Faults(lost=0.25, restarts=(2, 5), abrupt=0.9, link_kb_s=7.0, straggler_factor=9.0)
    assert lines(faults=faults) == ("faults: lost 0.25, restarts after (2, 5)",)


def test_asynchronous_rounds_say_when_they_end():
    (line,) = lines(sync="async", quorum=0.75, timer_s=9.0)
    assert "75% of the feedback" in line
    assert "9 virtual seconds" in line


def test_both_privacy_budgets_are_told_apart():
    first, second = lines(privacy=Gaussian(epsilon=3.0), training=DPTraining(epsilon=1.5, **RATES))
    assert first == "profiles: differentially private, epsilon 3, delta 1e-05 over the run"
    assert second.startswith("training: differentially private, epsilon 1.5")
