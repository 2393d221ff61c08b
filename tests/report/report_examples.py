"""Small made-up run directories, as the round loop writes them."""

import json

import numpy as np
import yaml

from knexa.recipe import RECIPE

NAMES = ("ada", "bob", "cyd", "dan")
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
    done=True,
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
    document = {
        "matchmaker": matchmaker,
        "exchange": exchange,
        "seed": seed,
        "config_hash": path.name,
        "needs": list(needs),
        "pass@1": {"mean": passed},
        "pass@10": {"mean": min(1.0, 2 * passed)},
        "codebleu_fixed": {"mean": 0.5},
        "data_shares": np.roll(np.eye(num_agents, 12), seed, axis=1).tolist(),
        "kilobytes": 1234.5,
        "steps": 70,
        "tokens_trained": 5000,
        "cumulative_regret": None,
        "random_regret": None,
        **(summary or {}),
    }
    document = {key: value for key, value in document.items() if value is not None}
    (path / "summary.json").write_text(json.dumps(document))
    if curve:
        _write_rows(path / "rounds.jsonl", _rounds(rounds, num_agents, passed))
    _write_rows(path / "exchanges.jsonl", exchanges)
    if regret_power is not None:
        _write_rows(path / "regret.jsonl", _probes(rounds, regret_power))
    if done:
        (path / "DONE").touch()
    return path


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
            yield {
                "round": number,
                "agent": agent,
                "name": NAMES[agent] if agent < len(NAMES) else f"agent {agent}",
                "pass@1_greedy": passed * number / rounds,
                "optimizer_steps": STEPS_A_ROUND if number else 0,
            }


def _exchanges(seed, rounds, num_agents):
    for number in range(1, rounds + 1):
        teacher = (seed + number) % num_agents
        yield {
            "id": f"r{number}-0",
            "round": number,
            "teachers": [teacher],
            "students": [(teacher + 1) % num_agents],
        }


def _probes(rounds, power):
    for number in range(1, rounds + 1):
        regret = number**power - (number - 1) ** power
        yield {
            "round": number,
            "rewards": None,
            "best": 2.0,
            "chosen": 2.0 - regret,
            "random": 1.0,
        }


def _write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
