"""The Central Profiler/Matchmaker (CPM), to which every agent reports.

It receives profiles and scalar rewards; data, adapters and knowledge packages never reach it. Axes:
N agents, F profile features, K feedbacks, d context features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from numbers import Real
from typing import Any

import numpy as np

from knexa.data.problem import CATEGORIES
from knexa.errors import UserError
from knexa.matchmaking.answers import NO_TOPICS, TopicAnswers, TransferTopics
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.contexts import Context
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.plans import Arm, Directive, Feedback, Plan, Selection
from knexa.matchmaking.rewards import Reward
from knexa.matchmaking.round_view import Probe, RoundView
from knexa.matchmaking.weights import ScoresError

_CATEGORY_INDICES = frozenset(range(len(CATEGORIES)))
MAX_FEATURE = 10.0
"""Largest magnitude of a profile feature; most are in [0, 1]. From about 100 on, products of
features cost the ridge regression its precision."""


def check_profiles(profiles_NF: Array, num_features: int) -> None:
    """Refuse implausible profiles.

    Raises:
        ValueError: Not a matrix of numbers of ``num_features`` columns, or a feature that is not a
            number of at most ``MAX_FEATURE`` in magnitude.
    """
    if not isinstance(profiles_NF, np.ndarray) or profiles_NF.dtype.kind not in "fiu":
        raise ValueError("profiles are not an array of real numbers")
    if profiles_NF.ndim != 2 or profiles_NF.shape[1] != num_features:
        raise ValueError(
            f"profiles have the shape {profiles_NF.shape}, expected are {num_features} features of "
            "every agent"
        )
    # Negated so that NaN, for which all comparisons are false, is refused.
    refused = np.argwhere(~((profiles_NF >= -MAX_FEATURE) & (profiles_NF <= MAX_FEATURE)))
    if len(refused):
        agent, feature = (int(place) for place in refused[0])
        raise ValueError(
            f"agent {agent}'s profile: feature {feature} is {profiles_NF[agent, feature]:.6g}, "
            f"allowed is -{MAX_FEATURE:g} to {MAX_FEATURE:g}"
        )


@dataclass(frozen=True, slots=True)
class _Pending:
    """A directive that waits for feedback: its arm, the context that it was chosen by, its round.

    Arm and context are None where the directive is no arm; so is the context if the policy does not
    learn.
    """

    arm: Arm | None
    context_d: Array | None
    round: int


class CPM:
    """One matchmaker with its context, selection and reward; the queue of unanswered directives.

    Args:
        matchmaker: The policy.
        context: Makes features of arms from profiles.
        matching: The selection: chooses arms by their scores.
        reward: How rewards are normalised before the policy learns.
        protocol: The exchange protocol of the config; a policy that dictates its own overrides it.
        num_profile_features: F.
        num_pairs: K_p; None is the paper's floor(N / 2).
        trust_column: The profile feature that the CPM sets to the agent's trust (see
            ``Ledger.trust``); None: profiles have none.
        admissible_NN: Which ordered pairs the protocol can serve; None is all.
        mutual: Whether each pair teaches both ways.
        trust_gate: Agents whose trust is significantly below this share of the median may not
            teach (see ``Ledger.distrusted``); None: all may.
        topics: The topics of the transfer set.
        most_liars: How many agents may forge reports. With it students' counts are compared: the
            policy learns from no report that is forged or disputed, and a reward of answers is the
            worth of its counts, whatever else is claimed. None: all reports are believed.
    """

    def __init__(
        self,
        *,
        matchmaker: Matchmaker,
        context: Context,
        matching: Selection,
        reward: Reward,
        protocol: str,
        num_profile_features: int,
        num_pairs: int | None = None,
        trust_column: int | None = None,
        admissible_NN: Mask | None = None,
        mutual: bool = False,
        trust_gate: float | None = None,
        topics: TransferTopics = NO_TOPICS,
        most_liars: int | None = None,
    ) -> None:
        self.matchmaker = matchmaker
        self.context = context
        self.matching = matching
        self.protocol = matchmaker.protocol or protocol
        self.num_pairs = num_pairs
        self.trust_column = trust_column
        self.admissible_NN = admissible_NN
        self.mutual = mutual
        self.trust_gate = trust_gate
        self.topics = topics
        self._topic_sizes = dict(zip(topics.categories, topics.sizes, strict=True))
        self.ledger = Ledger(most_liars)
        self._num_profile_features = num_profile_features
        self._reward = reward
        self._normalizer = reward.normalizer()
        self._pending: dict[str, _Pending] = {}
        self.expired: dict[str, int] = {}
        self._learns = type(matchmaker).learn is not Matchmaker.learn
        matchmaker.start(context.num_features(num_profile_features))

    @property
    def pending(self) -> tuple[str, ...]:
        """Ids of the directives that no feedback has answered yet, oldest first."""
        return tuple(self._pending)

    def propose(
        self,
        round: int,
        profiles_NF: Array,
        rng: np.random.Generator,
        probe: Probe | None = None,
        peer_losses: Array | None = None,
        available_N: Mask | None = None,
    ) -> Plan:
        """Return the round's plan and keep the context of each arm.

        With fewer than two agents available the plan is empty.

        Args:
            round: 1-based round number.
            profiles_NF: The newest profiles.
            rng: The round's generator.
            probe: Shown only to a policy that declares ``needs = {"probes"}``.
            peer_losses: Shown only to a policy that declares ``needs = {"peer losses"}``.
            available_N: Which agents are present and not busy; None is all.

        Raises:
            ValueError: When a profile is implausible, something that the policy needs is missing,
                a directive's id is already in use, or the plan names an unavailable agent.
            UserError: When the policy returns unusable scores or an unusable plan.
        """
        check_profiles(profiles_NF, self._num_profile_features)
        if available_N is not None and available_N.sum() < 2:
            return ()
        view = self._view(round, profiles_NF, rng, probe, peer_losses, available_N)
        try:
            plan = self.matchmaker.propose(view)
        except ScoresError as error:
            raise UserError(f"{type(self.matchmaker).__name__}.propose: {error}") from error
        self._check_plan(plan, len(profiles_NF))
        self._check_available(plan, available_N)
        ids = [directive.id for directive in plan]
        seen = set(self._pending)
        for id_ in ids:
            if id_ in seen:
                raise ValueError(f"directive {id_!r} was issued before; ids must be unique")
            seen.add(id_)
        arms = [view.arm_of(directive) for directive in plan]
        known = [arm for arm in arms if arm is not None]
        rows = iter(view.contexts_of(known) if self._learns and known else ())
        for id_, arm in zip(ids, arms, strict=True):
            self._pending[id_] = _Pending(arm, None if arm is None else next(rows, None), round)
        return plan

    def receive(self, feedbacks: Sequence[Feedback]) -> list[float]:
        """Let the policy learn these rewards, of this or earlier rounds; return them normalised.

        Each reward is learned with the context that its directive was chosen by.

        Raises:
            ValueError: When a reward is not a finite number of at most ``Reward.largest`` in
                magnitude, counts of answers cannot be, or an id is unknown, answered already, or
                given twice; no reward of the batch is learned then.
        """
        if not feedbacks:
            return []
        self._check(feedbacks)
        raw_K = np.array([self._borne_out(feedback) for feedback in feedbacks], dtype=np.float64)
        rewards_K = self._normalizer.normalize(raw_K)
        answered = [self._pending.pop(feedback.directive_id) for feedback in feedbacks]
        for pending, feedback, raw in zip(answered, feedbacks, raw_K.tolist(), strict=True):
            if pending.arm is not None:
                teacher, student, *_ = pending.arm
                self.ledger.record(teacher, student, raw, feedback.answers, pending.round)
        self.ledger.compare_reports()
        learnable_K = np.array(list(map(self._may_learn, answered, feedbacks)))
        if learnable_K.any():
            rows = [p.context_d for p in compress(answered, learnable_K) if p.context_d is not None]
            self.matchmaker.learn(np.stack(rows), rewards_K[learnable_K])
        return [float(reward) for reward in rewards_K]

    def _borne_out(self, feedback: Feedback) -> float:
        """Return the raw reward: where reports are compared, what its counts are worth."""
        if self.ledger.most_liars is None or not feedback.answers or not self._reward.of_answers:
            return feedback.reward
        return self._reward.worth(feedback.answers, self.topics)

    def _may_learn(self, pending: _Pending, feedback: Feedback) -> bool:
        """Return whether the policy learns from an answered directive."""
        if pending.arm is None or pending.context_d is None:
            return False
        if self.ledger.most_liars is not None and not feedback.answers:
            return False  # nothing that others' reports could be compared with
        teacher, student, *_ = pending.arm
        return self.ledger.believes(teacher, student, feedback.answers, pending.round)

    def expire(self, directive_id: str, outcome: str) -> None:
        """Stop waiting for a directive's feedback, and count the ``outcome`` that ended it.

        The policy does not learn from it: a lost package says nothing about its pair.

        Raises:
            ValueError: When it was never issued, or is answered already.
        """
        if directive_id not in self._pending:
            raise ValueError(f"directive {directive_id!r} is not waiting for feedback")
        del self._pending[directive_id]
        self.expired[outcome] = self.expired.get(outcome, 0) + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state of policy, reward statistics, ledger and unanswered directives."""
        contexts = {
            id_: pending.context_d
            for id_, pending in self._pending.items()
            if pending.context_d is not None
        }
        rounds = {id_: pending.round for id_, pending in self._pending.items()}
        compared = {} if self.ledger.most_liars is None else {"pending_rounds": rounds}
        return compared | {
            "matchmaker": self.matchmaker.state_dict(),
            "reward": self._normalizer.state_dict(),
            "ledger": self.ledger.state_dict(),
            "pending": {
                id_: None if pending.arm is None else list(pending.arm)
                for id_, pending in self._pending.items()
            },
            "expired": dict(self.expired),
            "pending_with_context": list(contexts),
            "pending_contexts": np.stack(list(contexts.values())) if contexts else np.zeros((0, 0)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; the run then continues bit for bit."""
        self.matchmaker.load_state_dict(state["matchmaker"])
        self._normalizer.load_state_dict(state["reward"])
        self.ledger.load_state_dict(state["ledger"])
        self.expired = dict(state["expired"])
        compares = self.ledger.most_liars is not None
        rounds = state["pending_rounds"] if compares else dict.fromkeys(state["pending"], 0)
        rows = dict(zip(state["pending_with_context"], state["pending_contexts"], strict=True))
        self._pending = {
            id_: _Pending(
                None if arm is None else tuple(map(int, arm)),
                np.array(rows[id_], dtype=np.float64) if id_ in rows else None,
                int(rounds[id_]),
            )
            for id_, arm in state["pending"].items()
        }

    def _view(
        self,
        round: int,
        profiles_NF: Array,
        rng: np.random.Generator,
        probe: Probe | None,
        peer_losses: Array | None,
        available_N: Mask | None,
    ) -> RoundView:
        """Return what the policy may see."""
        needs, name = self.matchmaker.needs, type(self.matchmaker).__name__
        if "probes" in needs and probe is None:
            raise ValueError(f"{name} needs the probe of every round; round {round} has none")
        if "peer losses" in needs and peer_losses is None:
            raise ValueError(f"{name} needs the peer losses of every round; round {round} has none")
        num_agents = len(profiles_NF)
        if self.trust_column is not None:
            profiles_NF = profiles_NF.copy()
            profiles_NF[:, self.trust_column] = self.ledger.trust(num_agents)
        return RoundView(
            round=round,
            profiles_NF=profiles_NF,
            context=self.context,
            matching=self.matching,
            num_pairs=num_agents // 2 if self.num_pairs is None else self.num_pairs,
            protocol=self.protocol,
            rng=rng,
            topics=self.topics,
            ledger=self.ledger,
            admissible_NN=self._trusted(self._reachable(available_N), num_agents),
            available_N=available_N,
            mutual=self.mutual,
            probe=probe if "probes" in needs else None,
            peer_losses=peer_losses if "peer losses" in needs else None,
        )

    def _reachable(self, available_N: Mask | None) -> Mask | None:
        """Return which ordered pairs may meet: an absent agent's row and column are not."""
        if available_N is None or available_N.all():
            return self.admissible_NN
        both_NN = available_N[:, None] & available_N[None, :]
        np.fill_diagonal(both_NN, False)
        return both_NN if self.admissible_NN is None else both_NN & self.admissible_NN

    def _trusted(self, admissible_NN: Mask | None, num_agents: int) -> Mask | None:
        """Return the admissible pairs without those whose teacher is distrusted."""
        if self.trust_gate is None:
            return admissible_NN
        distrusted_N = self.ledger.distrusted(num_agents, self.trust_gate)
        if not distrusted_N.any():
            return admissible_NN
        allowed_NN = np.repeat(~distrusted_N[:, None], num_agents, axis=1)
        if self.mutual:
            allowed_NN = allowed_NN & allowed_NN.T
        np.fill_diagonal(allowed_NN, False)
        return allowed_NN if admissible_NN is None else allowed_NN & admissible_NN

    def _check_plan(self, plan: Any, num_agents: int) -> None:
        """Raise UserError where a plan is malformed, or names agents that cannot do as it says."""
        name = type(self.matchmaker).__name__
        if not isinstance(plan, tuple) or not all(isinstance(each, Directive) for each in plan):
            raise UserError(
                f"{name}.propose returned no plan: let it return view.match(scores_NN) or "
                "view.plan(pairs)"
            )
        known = num_agents + self.matchmaker.num_servers
        for directive in plan:
            for agent in (*directive.teachers, *directive.students):
                if not 0 <= agent < known:
                    raise UserError(
                        f"{name}.propose names agent {agent}: agents are 0 to {known - 1}"
                    )
            topics = directive.topics
            if topics is not None and not (topics and _CATEGORY_INDICES.issuperset(topics)):
                raise UserError(
                    f"{name}.propose asks for the topics {topics}: name categories, "
                    f"0 to {len(CATEGORIES) - 1}, or None for all"
                )
            teacher, student = directive.pair or (0, 1)
            if teacher == student and not self.matchmaker.teaches_itself:
                raise UserError(f"{name}.propose lets agent {teacher} teach itself")

    @staticmethod
    def _check_available(plan: Plan, available_N: Mask | None) -> None:
        """Raise ValueError where a plan names an agent that is away or busy; servers never are."""
        if available_N is None:
            return
        for directive in plan:
            for agent in (*directive.teachers, *directive.students):
                if agent < len(available_N) and not available_N[agent]:
                    raise ValueError(
                        f"directive {directive.id!r} names agent {agent}, which is away or busy"
                    )

    def _check(self, feedbacks: Sequence[Feedback]) -> None:
        """Raise ValueError where a feedback cannot be accepted."""
        seen: set[str] = set()
        for feedback in feedbacks:
            self.check(feedback)
            if feedback.directive_id in seen:
                raise ValueError(f"feedback on directive {feedback.directive_id!r} comes twice")
            seen.add(feedback.directive_id)

    def check(self, feedback: Feedback) -> None:
        """Refuse a feedback that cannot be; it may come from a peer, of any type and length.

        Raises:
            ValueError: See ``receive``.
        """
        id_, reward = feedback.directive_id, feedback.reward
        if not isinstance(id_, str):
            raise ValueError("feedback on a directive whose id is not text")
        if id_ not in self._pending:
            raise ValueError(
                f"feedback on directive {id_!r:.60}, which was never issued or has been answered "
                "already"
            )
        if not isinstance(reward, Real) or isinstance(reward, bool):
            raise ValueError(f"feedback on directive {id_!r}: its reward is not a number")
        if not abs(reward) <= self._reward.largest:
            size = "finite" if reward != reward or abs(reward) == np.inf else "plausible"
            raise ValueError(
                f"feedback on directive {id_!r}: its reward is not {size}; allowed is "
                f"-{self._reward.largest:g} to {self._reward.largest:g}"
            )
        if not all(map(self._can_be, feedback.answers)) or not self._were_asked(feedback):
            raise ValueError(f"feedback on directive {id_!r}: its counts of answers cannot be")

    def _were_asked(self, feedback: Feedback) -> bool:
        """Return whether counts are of topics that the directive asked about, each once."""
        arm = self._pending[feedback.directive_id].arm
        told = [each.category for each in feedback.answers]
        if arm is None or not self.matching.by_topic:
            return len(set(told)) == len(told)
        return told in ([], [self.topics.categories[arm[2]]])

    def _can_be(self, answers: TopicAnswers) -> bool:
        """Return whether counts are those of answers to transfer problems."""
        new, right, asked = answers.new, answers.right, answers.asked
        if not type(new) is type(right) is type(asked) is int:
            return False
        return 0 <= new <= right <= asked <= self._topic_sizes.get(answers.category, 0)
