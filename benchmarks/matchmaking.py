"""Speed of the matchmaker, as ratios to plain implementations and to floors timed in the same run.

    OMP_NUM_THREADS=1 python benchmarks/matchmaking.py decision|routed|scoring|greedy|exact|large

Rivals alternate, and each figure is the least processor time of its repetitions, so that other work
on the machine disturbs the ratios little. Nothing here is a test. Axes: N agents, T topics, d
features.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy starts its threads

import numpy as np

from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.arrays import Array
from knexa.matchmaking.contexts import Concat, Context, Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.large.pair_scores import PairScores
from knexa.matchmaking.large.prefilter import Prefiltered
from knexa.matchmaking.large.scorers import linear_pair_scores
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Auto, Exact, Greedy
from knexa.matchmaking.plans import Feedback, Matching
from knexa.matchmaking.random import Random
from knexa.matchmaking.rewards import NewAnswers
from knexa.matchmaking.round_view import RoundView
from knexa.matchmaking.selections import Routed
from knexa.matchmaking.topic_contexts import Topic
from knexa.profiles import layout as profile_layout

BETA = 1.0


def interleaved(rivals: dict[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Return each rival's least processor time in seconds, over alternating repetitions.

    A turn of less than 20 ms is repeated within the turn, and its mean counts.
    """
    best = dict.fromkeys(rivals, float("inf"))
    for _ in range(repeat):
        for name, run in rivals.items():
            begin, calls = time.process_time(), 0
            while calls == 0 or time.process_time() - begin < 0.02:
                run()
                calls += 1
            best[name] = min(best[name], (time.process_time() - begin) / calls)
    return best


def show(title: str, seconds: dict[str, float], reference: str) -> None:
    """Print a table of times and of ratios to ``reference``."""
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"  {name:<44} {value * 1e3:>10.2f} ms {value / seconds[reference]:>9.3f}x")


def profiles(num_agents: int, rng: np.random.Generator) -> Array:
    """Return profiles_NF laid out as real ones: a family, dynamics, a skewed data histogram."""
    num_static, num_data = profile_layout.NUM_STATIC, profile_layout.NUM_DATA
    profiles_NF = rng.random((num_agents, profile_layout.NUM_FEATURES))
    profiles_NF[:, :num_static] = 0.0
    profiles_NF[np.arange(num_agents), rng.integers(0, 4, num_agents)] = 1.0
    profiles_NF[:, -num_data:] = rng.dirichlet(np.full(num_data, 0.1), num_agents)
    return profiles_NF


def trained(
    context: Context, num_agents: int, matching: Matching, num_observations: int = 500
) -> tuple[LinUCB, RoundView]:
    """Return a policy that has learned from a random linear world, and its next round."""
    rng = np.random.default_rng(0)
    view = RoundView(
        round=2,
        profiles_NF=profiles(num_agents, rng),
        context=context,
        matching=matching,
        num_pairs=num_agents // 2,
        protocol="akd",
        rng=rng,
    )
    num_features = context.num_features(profile_layout.NUM_FEATURES)
    policy = LinUCB(exploration=BETA)
    policy.start(num_features)
    theta_d = rng.normal(size=num_features) / np.sqrt(num_features)
    for _ in range(num_observations):
        pair = tuple(rng.choice(num_agents, 2, replace=False).tolist())
        context_1d = view.contexts_of([pair])
        policy.learn(context_1d, context_1d @ theta_d + 0.3 * rng.normal(size=1))
    return policy, view


class RowByRow(Interaction):
    """The interaction context without its factors, which are known of the class itself alone."""


def pair_scores(policy: LinUCB, view: RoundView, context: Context | None = None) -> PairScores:
    """Return the policy's scores, to be computed on demand."""
    theta_d, beta = policy.scoring(view)
    known = (context or view.context, view.profiles_NF, view.ledger)
    return linear_pair_scores(*known, theta_d, policy.model.inverse_dd, beta)


def decide(policy: LinUCB, view: RoundView) -> None:
    """Score all ordered pairs, match, and learn from the pairs' rewards (random ones)."""
    plan = policy.propose(view)
    contexts_Kd = view.contexts_of([directive.pair for directive in plan if directive.pair])
    policy.learn(contexts_Kd, view.rng.normal(size=len(contexts_Kd)))


def decide_by_loop(policy: LinUCB, view: RoundView, *, inverse_per_pair: bool) -> None:
    """Do the same as a plain reading of Algorithm 1 does: pair by pair, with LinUCB's A and b."""
    A_dd, b_d, p_NF = policy.model.A_dd.copy(), policy.model.b_d.copy(), view.profiles_NF
    inverse_dd = np.linalg.inv(A_dd)
    scored = []
    for teacher in range(view.num_agents):
        for student in range(view.num_agents):
            if teacher == student:
                continue
            if inverse_per_pair:
                inverse_dd = np.linalg.inv(A_dd)
            x_d = np.concatenate([p_NF[student], p_NF[teacher]])
            theta_d = inverse_dd @ b_d
            score = theta_d @ x_d + BETA * np.sqrt(x_d @ inverse_dd @ x_d)
            scored.append((score, teacher, student))
    taken: set[int] = set()
    for _, teacher, student in sorted(scored, reverse=True):
        if teacher not in taken and student not in taken:
            taken |= {teacher, student}
            x_d = np.concatenate([p_NF[student], p_NF[teacher]])
            A_dd += np.outer(x_d, x_d)
            b_d += view.rng.normal() * x_d


def decision() -> None:
    """One full decision at N = 64."""
    matchings: dict[str, Matching] = {"greedy": Greedy(), "exact": Exact()}
    loop = trained(Concat(), 64, Greedy())
    rivals: dict[str, Callable[[], object]] = {
        "concat, loop with one inverse": lambda: decide_by_loop(*loop, inverse_per_pair=False),
        "concat, loop with an inverse per pair": lambda: decide_by_loop(
            *loop, inverse_per_pair=True
        ),
    }
    for context in (Concat(), Interaction()):
        for name, matching in matchings.items():
            policy, view = trained(context, 64, matching)
            key = f"{type(context).__name__.lower()}, knexa, {name}"
            rivals[key] = lambda policy=policy, view=view: decide(policy, view)
    seconds = interleaved(rivals, 20)
    show("One decision, N = 64", seconds, "concat, loop with one inverse")


TOPICS = TransferTopics(categories=tuple(range(12)), sizes=(11,) * 8 + (10,) * 4)


def routed_round(cpm: CPM, round: int, profiles_NF: Array) -> None:
    """Make the plan of a routed round, as a run does, and report random counts of answers."""
    rng = np.random.default_rng(round)
    plan = cpm.propose(round, profiles_NF, rng)
    shares_K2 = np.sort(rng.random((len(plan), 2)), axis=1).tolist()
    feedbacks = []
    for directive, (new_share, right_share) in zip(plan, shares_K2, strict=True):
        assert directive.topics is not None
        (topic,) = directive.topics
        size = TOPICS.size(topic)
        new, right = int(new_share * size / 4), int(right_share * size)
        answers = TopicAnswers(category=topic, asked=size, right=right, new=new)
        feedbacks.append(Feedback(directive_id=directive.id, reward=new / size, answers=(answers,)))
    cpm.receive(feedbacks)


def routed_view(num_agents: int, budget: int | None = None) -> tuple[CPM, RoundView, Array]:
    """Return a matchmaker of routed exchange after three rounds, and its next round."""
    rng = np.random.default_rng(0)
    profiles_NF = profiles(num_agents, rng)
    policy = LinUCB(regularization=0.1, exploration=0.3)
    cpm = CPM(
        matchmaker=policy,
        context=Topic(),
        matching=Routed(budget=budget),
        reward=NewAnswers(),
        protocol="akd_verified",
        num_profile_features=profile_layout.NUM_FEATURES,
        topics=TOPICS,
    )
    for round in (1, 2, 3):
        routed_round(cpm, round, profiles_NF)
    view = RoundView(
        round=4,
        profiles_NF=profiles_NF,
        context=cpm.context,
        matching=cpm.matching,
        num_pairs=num_agents // 2,
        protocol=cpm.protocol,
        rng=rng,
        topics=TOPICS,
        ledger=cpm.ledger,
    )
    return cpm, view, profiles_NF


def decide_routed(policy: LinUCB, view: RoundView) -> None:
    """Choose a teacher for every student and topic, and learn from all of them."""
    view = replace(view)  # without what an earlier call has built
    plan = policy.propose(view)
    arms = [arm for arm in map(view.arm_of, plan) if arm is not None]
    policy.learn(view.contexts_of(arms), view.rng.random(len(arms)))


def products_and_maxima(num_agents: int) -> Callable[[], None]:
    """Return the floor: a product of N x 4 x N and its maxima for each topic, in blocks."""
    rng = np.random.default_rng(1)
    offers_TNd = rng.random((len(TOPICS.sizes), num_agents, 4))
    wants_TdN = rng.random((len(TOPICS.sizes), 4, num_agents))
    block_nN = np.empty((64, num_agents))

    def floor() -> None:
        for offers_Nd, wants_dN in zip(offers_TNd, wants_TdN, strict=True):
            best_N = np.full(num_agents, -np.inf)
            for begin in range(0, num_agents, len(block_nN)):
                np.matmul(offers_Nd[begin : begin + len(block_nN)], wants_dN, out=block_nN)
                np.maximum(best_N, block_nN.max(axis=0), out=best_N)

    return floor


def routed() -> None:
    """One routed decision at 64 and 4,096 agents and 12 topics."""
    for num_agents, repeat in ((64, 40), (4096, 4)):
        routed_at(num_agents, repeat)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {peak:.2f} GiB at most, over this whole command")


def routed_at(num_agents: int, repeat: int) -> None:
    """One routed decision of so many agents and 12 topics."""
    cpm, view, profiles_NF = routed_view(num_agents)
    _, within, _ = routed_view(num_agents, budget=64)
    policy, rounds = cpm.matchmaker, count(4)
    assert isinstance(policy, LinUCB)

    def choose_by_all_scores() -> None:
        fresh = replace(view)
        fresh.match(policy.scores(fresh))

    rivals: dict[str, Callable[[], object]] = {
        "floor: matrix products in blocks, their maxima": products_and_maxima(num_agents),
        "linucb: choose, learn": lambda: decide_routed(policy, view),
        "linucb, budget of 64 answers": lambda: decide_routed(policy, within),
        "random": lambda: Random().propose(replace(view)),
        "linucb: a CPM's round, with all checks": lambda: routed_round(
            cpm, next(rounds), profiles_NF
        ),
    }
    if num_agents <= 64:
        rivals["linucb, all arms' scores: choose"] = choose_by_all_scores
    seconds = interleaved(rivals, repeat)
    show(f"One routed decision, N = {num_agents:,}, T = 12", seconds, next(iter(rivals)))


def scoring() -> None:
    """All scores at N = 4,096 against the floor, and interaction against concat."""
    num_agents = 4096
    rng = np.random.default_rng(1)
    left_NF, right_FN = rng.random((num_agents, 32)), rng.random((32, num_agents))

    def floor() -> None:
        product_NN = left_NF @ right_FN
        np.sqrt(product_NN, out=product_NN)

    policy, view = trained(Concat(), num_agents, Greedy())
    rivals = {
        "floor: matrix product, one pass": floor,
        "concat": lambda: pair_scores(policy, view).dense(),
    }
    show("All scores, N = 4,096 (concat: d = 64)", interleaved(rivals, 12), next(iter(rivals)))
    other, other_view = trained(Interaction(), num_agents, Greedy())
    rivals = {
        "concat": lambda: pair_scores(policy, view).dense(),
        "interaction, factored": lambda: pair_scores(other, other_view).dense(),
        "interaction, row by row": lambda: pair_scores(other, other_view, RowByRow()).block(
            np.arange(64), np.arange(num_agents)
        ),
    }
    seconds = interleaved(rivals, 2)
    seconds["interaction, row by row"] *= num_agents / 64  # 64 teachers of 4,096 were timed
    show("All scores, N = 4,096, by context", seconds, "concat")


def greedy() -> None:
    """Greedy matching at N = 4,096 against a sort of the scores."""
    for context in (Concat(), Interaction()):
        policy, view = trained(context, 4096, Greedy())
        scores_NN = pair_scores(policy, view).dense()
        rivals = {
            "np.argsort of the scores": lambda s=scores_NN: np.argsort(s, axis=None),
            "knexa": lambda s=scores_NN: Greedy().match(s, 2048, np.random.default_rng(0)),
        }
        title = f"Greedy matching, N = 4,096, {type(context).__name__.lower()}"
        show(title, interleaved(rivals, 4), next(iter(rivals)))


def exact() -> None:
    """Exact against greedy, in time and in total score, by the number of agents."""
    print(f"Auto matches exactly up to {Auto().exact_up_to} agents.")
    for context in (Concat(), Interaction()):
        for num_agents in (16, 64, 128, 256, 512, 1024):
            policy, view = trained(context, num_agents, Greedy())
            scores_NN, num_pairs = pair_scores(policy, view).dense(), num_agents // 2
            pairs: dict[str, list[tuple[int, int]]] = {}

            def run(name: str, matching: Matching) -> None:
                pairs[name] = matching.match(scores_NN, num_pairs, np.random.default_rng(0))  # noqa: B023

            rivals = {
                "exact": lambda: run("exact", Exact()),
                "greedy": lambda: run("greedy", Greedy()),
                "scoring": lambda: pair_scores(policy, view).dense(),  # noqa: B023
            }
            seconds = interleaved(rivals, 3 if num_agents < 1024 else 1)
            show(f"{type(context).__name__.lower()}, N = {num_agents}", seconds, "greedy")
            print(f"  greedy's gain over random is {share(scores_NN, pairs):.4f} of exact's")


def share(scores_NN: Array, pairs: dict[str, list[tuple[int, int]]]) -> float:
    """Return the second matching's gain over random pairs, relative to that of the first."""
    first, second = (sum(scores_NN[pair] for pair in chosen) for chosen in pairs.values())
    random = scores_NN.mean() * (len(scores_NN) // 2)
    return float((second - random) / (first - random))


def large() -> None:
    """N = 100,000 with the prefilter; the share of the greedy total it keeps at N = 4,096."""
    for num_observations in (0, 50, 500):
        policy, view = trained(Concat(), 4096, Greedy(), num_observations)
        kept_by_window(policy, view, f"concat, {num_observations} observations")
    policy, view = trained(Concat(), 100_000, Prefiltered())
    begin, begin_wall = time.process_time(), time.perf_counter()
    decide(policy, view)
    seconds, wall = time.process_time() - begin, time.perf_counter() - begin_wall
    print(
        f"\nOne decision, concat, N = 100,000: {seconds:.1f} s of processor, {wall:.1f} s of clock"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  {peak:.2f} GiB at most, over this whole command")
    policy, view = trained(Interaction(), 4096, Greedy())
    kept_by_window(policy, view, "interaction, 500 observations")


def kept_by_window(policy: LinUCB, view: RoundView, name: str) -> None:
    """Print what windows keep of the greedy total and of its gain over random pairs."""
    scores_NN = pair_scores(policy, view).dense()
    best = Greedy().match(scores_NN, view.num_pairs, view.rng)
    print(f"\nShare of the greedy total kept, N = 4,096, {name}")
    for window in (84, 256, 1024, 2048):
        found = Prefiltered(window=window).match(scores_NN, view.num_pairs, view.rng)
        total = sum(scores_NN[pair] for pair in found) / sum(scores_NN[pair] for pair in best)
        gain = share(scores_NN, {"greedy": best, "prefiltered": found})
        print(f"  window {window:>5}: {total:.4f} of the total, {gain:.4f} of the gain over random")


if __name__ == "__main__":
    commands = {f.__name__: f for f in (decision, routed, scoring, greedy, exact, large)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=commands)
    commands[parser.parse_args().command]()
