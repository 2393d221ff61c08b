"""Speed of the matchmaker, as ratios to plain implementations and to floors timed in the same run.

    OMP_NUM_THREADS=1 python benchmarks/matchmaking.py decision|scoring|greedy|exact|large

Rivals alternate, and each figure is the least processor time of its repetitions, so that other work
on the machine disturbs the ratios little. Nothing here is a test. Axes: N agents, d features.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy starts its threads

import numpy as np

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.base import Matching, RoundView
from knexa.matchmaking.contexts import Concat, Context, Interaction
from knexa.matchmaking.large.pair_scores import PairScores
from knexa.matchmaking.large.prefilter import Prefiltered
from knexa.matchmaking.large.scorers import linear_pair_scores
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Auto, Exact, Greedy
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
    commands = {f.__name__: f for f in (decision, scoring, greedy, exact, large)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=commands)
    commands[parser.parse_args().command]()
