"""A matchmaker of one's own with a mistake in it: one line before anything runs."""

import pytest

from knexa.errors import UserError
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.policy_check import check_matchmaker


class Mine(Matchmaker):
    def propose(self, view):
        return view.plan([(0, 1)])


class NoPropose(Matchmaker):
    pass


class TakesNothing(Matchmaker):
    def propose(self):
        return ()


class SeesTooMuch(Mine):
    needs = frozenset({"probes", "probs"})


class NeedsText(Mine):
    needs = "probes"


class Learner(Mine):
    theta = 0.0

    def learn(self, contexts_Kd, rewards_K):
        self.theta += rewards_K.sum()


class SavesOnly(Learner):
    def state_dict(self):
        return {"theta": self.theta}


class Resumes(SavesOnly):
    def load_state_dict(self, state):
        self.theta = state["theta"]


class LearnsNothing(Resumes):
    def learn(self, rewards_K):
        pass


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (NoPropose, r"NoPropose has no propose\(self, view\)"),
        (TakesNothing, r"TakesNothing.propose must be propose\(self, view\)"),
        (LearnsNothing, r"LearnsNothing.learn must be learn\(self, contexts_Kd, rewards_K\)"),
        (SeesTooMuch, "SeesTooMuch.needs has 'probs'.*peer losses, probes"),
        (NeedsText, "NeedsText.needs='probes': must be a frozenset"),
        (Learner, "Learner learns but saves nothing"),
        (SavesOnly, "SavesOnly has one of state_dict"),
    ],
)
def test_a_class_that_no_run_can_use_is_one_line(cls, said):
    with pytest.raises(UserError, match=said) as caught:
        check_matchmaker(cls())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", [Mine, Resumes])
def test_a_class_that_has_what_it_needs_passes(cls):
    check_matchmaker(cls())
