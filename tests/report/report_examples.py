"""Small made-up run directories, as the round loop writes them."""

import json

import numpy as np
import yaml

from knexa.recipe import RECIPE
from knexa.tracking import done
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.schema import as_document
from tests import row_examples

NAMES = ("ada", "bob", "cyd", "dan")
_NULL = ("cumulative_regret", "random_regret", "mean_reward", "sier", "exchange")
STEPS_A_ROUND = 10  # of each agent


def write_run(
    folder,
    matchmaker="linucb",
    seed=0,
    *,
    passed=0.2,
    exchange="akd",
    rounds=4,
    num_agents=4,
    needs=(),
    regret_power=None,
    config=None,
    summary=None,
    curve=True,
    finished=True,
):
    """Write a run whose greedy curve rises linearly from 0 to ``passed``; return its folder.

    ``regret_power`` p makes cumulative regret round^p; without it nothing is probed. ``config``
    and ``summary`` are merged over what stands here, a summary's None takes a key out.
    """
    label = json.dumps(config, sort_keys=True) if config else ""
    number = sum(ord(character) * (place + 1) for place, character in enumerate(label))
    path = folder / f"{matchmaker}-{exchange}-s{seed}-{number}"
    path.mkdir(parents=True)
    settings = {
        "seed": seed,
        "recipe": RECIPE,
        "matchmaker": {"_name_": matchmaker},
        "exchange": {"_name_": exchange},
        "federation": {"num_rounds": rounds},
    }
    for key, value in (config or {}).items():
        group, _, name = key.rpartition(".")
        settings.setdefault(group, {})[name] = value
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    exchanges = [] if matchmaker == "local_only" else _exchanges(seed, rounds, num_agents)
    score = row_examples.score
    shares = np.eye(12)[np.roll(np.arange(num_agents), -seed) % 12].tolist()
    document = as_document(
        row_examples.summary(
            matchmaker=matchmaker,
            exchange=exchange,
            seed=seed,
            config_hash=path.name,
            needs=tuple(needs),
            costs=row_examples.costs(kilobytes=1234.5, steps=70, tokens_trained=5000),
            scores=row_examples.scores(
                pass_at={1: score(passed), 10: score(min(1.0, 2 * passed))},
                codebleu_fixed=score(0.5),
                data_shares=tuple(map(tuple, shares)),
            ),
        )
    ) | (summary or {})
    document = {key: value for key, value in document.items() if value is not None or key in _NULL}
    (path / "summary.json").write_text(json.dumps(document))
    run_dir = RunDirectory(path)
    if curve:
        run_dir.append(_rounds(rounds, num_agents, passed))
    run_dir.append(exchanges)
    if regret_power is not None:
        run_dir.append(_probes(rounds, regret_power))
    if finished:
        run_dir.mark_done()
    return path


def rewrite(file, text):
    """Replace a file of a run that ended, as if the run had written that."""
    file.write_text(text)
    (file.parent / "DONE").write_bytes(done.contents(file.parent))


def write_study(folder, *, seeds=3):
    """Write runs that hold what every figure needs: three methods, two sizes of federation."""
    methods = {
        "linucb": (0.3, 0.6, ()),
        "random": (0.2, 1.0, ()),
        "oracle": (0.4, 0.3, ("probes",)),
    }
    for matchmaker, (passed, power, needs) in methods.items():
        for seed in range(seeds):
            for num_agents in (4, 6):
                write_run(
                    folder,
                    matchmaker,
                    seed,
                    passed=passed + 0.01 * seed + 0.01 * num_agents,
                    num_agents=num_agents,
                    rounds=6,
                    needs=needs,
                    regret_power=power,
                    config={"federation.num_agents": num_agents},
                )


def _rounds(rounds, num_agents, passed):
    for number in range(rounds + 1):
        for agent in range(num_agents):
            yield row_examples.round_row(
                round=number,
                agent=agent,
                name=NAMES[agent] if agent < len(NAMES) else f"agent {agent}",
                pass_at_1_greedy=passed * number / rounds,
                own_pass_at_1_greedy=None,
                optimizer_steps=STEPS_A_ROUND if number else 0,
            )


def _exchanges(seed, rounds, num_agents):
    for number in range(1, rounds + 1):
        teacher = (seed + number) % num_agents
        yield row_examples.exchange_row(
            id=f"r{number}-0",
            round=number,
            teachers=(teacher,),
            students=((teacher + 1) % num_agents,),
        )


def _probes(rounds, power):
    for number in range(1, rounds + 1):
        regret = number**power - (number - 1) ** power
        yield row_examples.regret_row(round=number, best=2.0, chosen=2.0 - regret, random=1.0)
