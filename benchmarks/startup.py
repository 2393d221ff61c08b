"""From `python -m knexa` to the first training step, against the bare imports; and `--help`.

    python benchmarks/startup.py --repeat 5 [OVERRIDES]

Alternates three processes: one that imports torch, transformers, peft and lightning and ends; the
command, which is ended as its first training step begins, in whatever process that is; and
`knexa --help`. Between the first two are the config and its checks, data, the benchmark check,
backbones, workers and, unless evaluation.every=0 is among the OVERRIDES, the evaluation that every
run begins with. Clock time: give it two idle cores. Nothing here is a test.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

IMPORTS = "import torch, transformers, peft, lightning"
COMMAND = """
import os, signal, sys
from knexa.cli.commands import run_command_line
from knexa.federation.llm.settings import LLM

plain = LLM.set_up

def set_up(*arguments):
    # Workers are forked after this, and inherit it.
    made = plain(*arguments)
    from knexa.agents.lightning_module import AdapterModule

    AdapterModule.training_step = lambda *_: os.killpg(0, signal.SIGKILL)
    return made

LLM.set_up = set_up
sys.exit(run_command_line(sys.argv[1:]))
"""


def seconds(arguments: list[str], expected: int) -> float:
    """Return how long a process takes to end as expected, in a folder that is thrown away."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            check=False,
            cwd=folder,
            env=environment,
            start_new_session=True,
            text=True,
        )
        took = time.perf_counter() - begin
    if done.returncode != expected:
        sys.exit(f"{arguments[:2]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return took


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    options, overrides = parser.parse_known_args()
    rivals = {
        "bare imports": (["-c", IMPORTS], 0),
        "first training step": (["-c", COMMAND, *overrides], -signal.SIGKILL),
        "--help": (["-m", "knexa", "--help"], 0),
    }
    found: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(options.repeat + 1):
        for name, rival in rivals.items():
            took = seconds(*rival)
            if number:  # the first time reads the files
                found[name].append(took)
    base = statistics.median(found["bare imports"])
    for name, values in found.items():
        print(
            f"{name:<20} median {statistics.median(values):6.2f} s  least {min(values):6.2f} s  "
            f"{statistics.median(values) / base:5.2f}x"
        )


if __name__ == "__main__":
    main()
