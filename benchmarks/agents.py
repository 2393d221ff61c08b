"""Memory and time of N tiny agents on four shared backbones, from their first round to the last.

    python benchmarks/agents.py 100 1000         (2.8 GiB, 15 minutes of processor time)

Every N is a federation in processes of its own: local updates, profiles, LinUCB, exchanges and a
checkpoint each round, on 8 private problems an agent. Memory is the peak of what all processes hold
together, shared pages counted once (PSS), and time is the processor's, so that other work on the
machine disturbs neither. The main process's memory is printed apart: it holds the agents, while the
workers' levels off as they have seen batches of most shapes. Nothing here is a test.
"""

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import yaml

ROSTER = Path(__file__).parents[1] / "conf" / "roster" / "tiny6.yaml"
NUM_TRAIN, NUM_VALIDATION = 8, 2


def runtime(num_agents: int, num_rounds: int) -> Any:
    """Return a runtime of agents that draw their problems from one pool, with replacement."""
    from knexa.agents.exchange_protocol import ExchangeRuntime
    from knexa.agents.training import Training
    from knexa.backbones.pool import BackbonePool
    from knexa.backbones.roster import Agent
    from knexa.config.components import instantiate
    from knexa.data.codelets import Codelets
    from knexa.data.partition import AgentData
    from knexa.evaluation import Executor
    from knexa.evaluation.settings import Evaluation
    from knexa.exchange.guardrail.filter import Guardrail
    from knexa.protocols.akd_verified import AKDVerified

    roster = instantiate(yaml.safe_load(ROSTER.read_text()), key="roster")
    names = list(roster.backbones)
    agents = [Agent(name=f"a{i}", backbone=names[i % len(names)]) for i in range(num_agents)]
    benchmark = Codelets(num_test=4, num_transfer=12).load()
    rng = np.random.default_rng(0)
    splits = []
    for _ in range(num_agents):
        chosen = rng.choice(len(benchmark.train), NUM_TRAIN + NUM_VALIDATION, replace=False)
        # Copies, as if every agent had read its own file.
        own = pickle.loads(pickle.dumps([benchmark.train[i] for i in chosen]))
        splits.append(AgentData(train=tuple(own[:NUM_TRAIN]), validation=tuple(own[NUM_TRAIN:])))
    return ExchangeRuntime(
        seed=0,
        num_rounds=num_rounds,
        roster=replace(roster, agents=tuple(agents)),
        benchmark=benchmark,
        splits=splits,
        pool=BackbonePool(roster.backbones),
        executor=Executor(),
        training=Training(local_learning_rate=3e-3, kd_learning_rate=3e-3),
        evaluation=Evaluation(max_new_tokens=32, num_samples=1, ks=(1,), every=0),
        protocol=AKDVerified(num_steps=2, num_problems=4),
        guardrail=Guardrail(),
        accelerator="cpu",
    )


class Meter:
    """The peak of what this process and the pool's workers hold; an observer of phases."""

    def __init__(self) -> None:
        self.processes: list[int] = [os.getpid()]
        self.peak, self.main, self._tasks = 0, 0, 0

    def begin(self, phase: str, num_tasks: int) -> None:
        self.read()

    def done(self, phase: str, key: int, seconds: float) -> None:
        self._tasks += 1
        if self._tasks % 8 == 0:
            self.read()

    def read(self) -> None:
        """Note what is held now, in bytes."""
        main, *workers = map(proportional_set_size, self.processes)
        self.peak, self.main = max(self.peak, main + sum(workers)), max(self.main, main)


def proportional_set_size(process: int) -> int:
    """Return a process's memory in bytes, its share of shared pages alone."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def live(num_agents: int, num_rounds: int, num_workers: int) -> dict[str, Any]:
    """Live through a federation; return what it took."""
    import torch

    from knexa.engine.local import Pool, Workers
    from knexa.federation.llm.world import LLMWorld
    from knexa.matchmaking.contexts import Interaction
    from knexa.matchmaking.cpm import CPM
    from knexa.matchmaking.linucb import LinUCB
    from knexa.matchmaking.matchings import Auto
    from knexa.matchmaking.rewards import LocalLoss
    from knexa.profiles.build import Paper32

    torch.set_num_threads(1)
    made, meter = runtime(num_agents, num_rounds), Meter()
    for name in made.roster.used_backbones:
        made.pool.get(name)
    begin, main_s = time.perf_counter(), time.process_time()
    steps: dict[str, float] = {}
    with Pool(Workers(num_workers, "cpu", "a benchmark"), made, meter) as pool:
        meter.processes += [worker.process.pid for worker in pool._workers]
        world = LLMWorld(made, pool, LocalLoss(), Paper32())
        cpm = CPM(
            matchmaker=LinUCB(),
            context=Interaction(),
            matching=Auto(),
            reward=LocalLoss(),
            protocol=world.protocol_name,
            num_profile_features=len(Paper32.feature_names),
        )
        for number in range(1, num_rounds + 1):
            world.begin_round(number)
            deciding = time.process_time()
            plan = cpm.propose(number, world.profiles(), rng=np.random.default_rng(number))
            steps["decide"] = steps.get("decide", 0.0) + time.process_time() - deciding
            exchanges = world.commit(number, world.try_learning(number, plan))
            from knexa.matchmaking.plans import Feedback

            cpm.receive([Feedback(directive_id=e.directive.id, reward=e.reward) for e in exchanges])
            world.rows(number, exchanges)
            saving = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                world.save(Path(folder))
            steps["save"] = steps.get("save", 0.0) + time.process_time() - saving
            meter.read()
        world.final_samples()
        meter.read()
        states = [*world.states]
    made.executor.close()
    steps["main process"] = time.process_time() - main_s
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "agents": num_agents,
        "peak": meter.peak,
        "main": meter.main,
        "owned": sum(owned(made, state) for state in states) / num_agents,
        "cpu_s": steps["main process"] + children.ru_utime + children.ru_stime,
        "clock_s": time.perf_counter() - begin,
        "steps": steps,
    }


def owned(made: Any, state: Any) -> int:
    """Return the bytes of an agent's adapter, optimizer state and data."""
    tensors = [*state.adapter.values(), *state.optimizer.values()]
    data = len(pickle.dumps((made.splits[state.index], state.replay)))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + data


def show(results: list[dict[str, Any]], num_rounds: int) -> None:
    """Print the sizes of each federation, and what every further agent takes."""
    names = ("agents", "peak MB", "main MB", "a further agent", "of its own", "main alone")
    print("".join(f"{name:>16}" for name in (*names, "CPU s, agent", "clock s")))
    for before, found in zip([None, *results], results, strict=False):
        cells = [
            f"{found['agents']}",
            f"{found['peak'] / 2**20:.0f}",
            f"{found['main'] / 2**20:.0f}",
        ]
        each = dict.fromkeys(("peak", "main"), float("nan"))
        if before is not None:
            more = found["agents"] - before["agents"]
            each = {key: (found[key] - before[key]) / more for key in each}
        cells += [f"{each['peak'] / 2**20:.2f} MB"]
        cells += [f"{each[key] / found['owned']:.2f}x" for key in each]
        cells += [f"{found['cpu_s'] / found['agents'] / num_rounds:.3f}", f"{found['clock_s']:.0f}"]
        print("".join(f"{cell:>16}" for cell in cells))
    print(f"An agent owns {results[-1]['owned'] / 2**20:.2f} MB: adapter, optimizer state, data.")
    for found in results:
        parts = ", ".join(f"{name} {s / found['agents']:.4f}" for name, s in found["steps"].items())
        print(f"{found['agents']} agents, processor seconds an agent: {parts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("agents", type=int, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="one federation, in this process")
    chosen = parser.parse_args()
    if chosen.alone:
        print(json.dumps(live(chosen.agents[0], chosen.rounds, chosen.workers)))
        return
    results = []
    for number in chosen.agents:
        command = [sys.executable, __file__, str(number), "--alone"]
        command += [f"--rounds={chosen.rounds}", f"--workers={chosen.workers}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(json.loads(output.splitlines()[-1]))
    show(results, chosen.rounds)


if __name__ == "__main__":
    main()
