"""What an agent starts from, and what it is given to learn, without any training."""

from types import SimpleNamespace

import numpy as np
import pytest

from knexa.agents import learning, phases
from knexa.agents.exchange_protocol import ExchangeContext, Measurement
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import Example, FitReport
from knexa.protocols.adapter import Adapter
from knexa.protocols.akd import AKD
from knexa.protocols.akd_verified import AKDVerified
from knexa.protocols.fedavg import AdapterAveraging
from knexa.seeding import derive_seed

BACKBONES = ("red", "blue", "red")
KEPT = KeptText(task_id="toy/0", completion="    return x\n")


@pytest.fixture
def seeds(monkeypatch):
    """Return how an agent's adapter is seeded under a protocol."""
    monkeypatch.setattr("knexa.backbones.load.initial_adapter", lambda _, seed: {"seed": seed})

    def of(protocol):
        runtime = SimpleNamespace(
            seed=5,
            protocol=protocol,
            members=[SimpleNamespace(backbone=name) for name in BACKBONES],
            pool={name: name for name in BACKBONES},
        )
        return [phases.start(runtime, index).adapter["seed"] for index in range(len(BACKBONES))]

    return of


def test_agents_whose_adapters_are_averaged_start_alike(seeds):
    """McMahan et al. 2017: the mean of models that never shared a start is no better than one."""
    first, other, again = seeds(AdapterAveraging())
    assert first == again != other


@pytest.mark.parametrize("protocol", [AKD(), AKDVerified(), Adapter()], ids=lambda p: p.name)
def test_other_agents_start_each_from_a_draw_of_their_own(seeds, protocol):
    assert seeds(protocol) == [derive_seed(5, "adapter", index) for index in range(3)]


@pytest.mark.parametrize("num_examples", [64, 100])
def test_a_cut_deal_takes_long_sequences_as_often_as_short_ones(num_examples):
    examples = [Example(list(range(length)), 1) for length in range(1, num_examples + 1)]
    rng = np.random.default_rng(0)
    times = np.zeros(num_examples)
    for _ in range(600):
        for batch in learning._deal(examples, 6, 8, rng):
            times[[len(example.ids) - 1 for example in batch]] += 1 / 600
    shares = [quarter.mean() for quarter in np.array_split(times, 4)]
    assert np.ptp(shares) < 0.06


def test_a_deal_is_whole_passes_one_after_another():
    examples = [Example([0] * length, 1) for length in range(1, 21)]
    batches = learning._deal(examples, 6, 8, np.random.default_rng(1))
    assert [len(batch) for batch in batches] == [8, 8, 4, 8, 8, 4]
    for half in (batches[:3], batches[3:]):
        assert sorted(len(e.ids) for batch in half for e in batch) == list(range(1, 21))


@pytest.mark.parametrize(
    ("protocol", "rehearsed"), [(AKDVerified(), [KEPT]), (AKD(), [])], ids=["akd_verified", "akd"]
)
def test_without_a_teacher_a_student_rehearses_what_it_would_rehearse_with_one(
    monkeypatch, protocol, rehearsed
):
    given = []

    def train(runtime, state, terms, **_):
        given.extend(text for _, texts in terms for text in texts)
        return state, FitReport(None, 0, 0)

    monkeypatch.setattr(learning, "train", train)
    monkeypatch.setattr("knexa.agents.scoring.measure", lambda *_: Measurement(None, None))
    runtime = SimpleNamespace(
        protocol=protocol,
        num_rounds=2,
        backbone=lambda _: SimpleNamespace(tokenizer=None),
        kept_example=lambda _, text: text,
        training=SimpleNamespace(accumulate=1, kd_learning_rate=1.0),
        byzantine=SimpleNamespace(does=lambda *_: False),
    )
    state = AgentState(index=0, adapter={}, replay=(KEPT,))
    same, _ = protocol.learn(ExchangeContext(runtime, 1), state, None, Measurement(None, None))
    assert given == rehearsed
    assert same.replay == (KEPT,)
