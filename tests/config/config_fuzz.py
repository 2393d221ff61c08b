"""Seeded command lines over all config groups: good, bad and absurd; and what each comes to.

``make fuzz`` runs this file: 2,000 command lines. Each is composed and validated as the app does it
before anything runs; those that pass are then built as ``dry_run=true`` builds them. Either that
works, or it is a ``UserError`` of one line that names a key of the command line.

All in one process, so what is read is shared: every config file and backbone once. Left out of dry
runs is the benchmark check, which executes every program of the data. Left to validation alone is
what a machine has no room or no files for (``TOO_MUCH``), and where asked every other valid one.
"""

import argparse
import contextlib
import copy
import functools
import gc
import io
import itertools
import json
import logging
import random
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from knexa.cli.experiments import run_job
from knexa.config import compose as composition
from knexa.config.build import build_components, build_settings
from knexa.config.folders import config_folder, options_of
from knexa.errors import UserError

MOST_CHARACTERS = 900
VALUES = (
    *("0", "1", "2", "3", "-1", "0.5", "-0.5", "1.5", "1e-3", "1e9", "99999999999999999999"),
    *("inf", "nan", "true", "no", "null", "", "abc", "'1'", "[]", "[1,2]", "[a]", "{a: 1}"),
    *("{}", "${seed}", "${nowhere}", "../up", "'a b'", '"quoted"', "0x10", "1_000", "[[1]]"),
)
JUNK = (
    "seed",
    "=3",
    "seed=[1,",
    "a b=1",
    "seed=1=2",
    "+=1",
    "~",
    "seed={a",
    "@x=1",
    "--bogus",
    "-x",
)
HYDRA = (
    *("hydra.mode=SIDEWAYS", "hydra.mode=RUN", "hydra.nothing=1", "hydra.job.chdir=maybe"),
    *("hydra/launcher=nothing", "hydra/sweeper=basic", "hydra.verbose=knexa", "hydra=null"),
)
SWEEPS = (
    "1,2",
    "range(0,3)",
    "abc,1",
    "choice(1,2)",
    "interval(0,1)",
    "glob(*)",
    "range(3,0)",
    "1,",
)
PRESETS = re.compile(r"\b(sweep|experiment|debug|hparams_search)=")
TOO_MUCH = re.compile(r"1e9|9999|1_000|num_workers|paper|humaneval|jsonl|gpu|torture|experiment=")


@dataclass(frozen=True)
class Space:
    """What there is to override: groups with their options, and the keys of the default config."""

    options: dict[str, list[str]]
    values: dict[str, Any]

    @classmethod
    def of_configs(cls) -> "Space":
        """Read it from the config folders."""
        root = config_folder()
        folders = [path for path in sorted(root.rglob("*")) if path.is_dir()]
        groups = [path.relative_to(root).as_posix() for path in folders]
        options = {group: options_of(group) for group in groups if not group.startswith("hydra")}
        options["sweep"] = options_of("sweep")
        (job,) = compose([])
        return cls(
            {group: names for group, names in options.items() if names}, dict(_dotted(job.config))
        )


def compose(arguments: Sequence[str]) -> tuple[composition.Job, ...]:
    """Compose a command line."""
    return composition.compose(composition.parse_arguments(arguments)).jobs


def _dotted(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in node.items() if isinstance(node, dict) else ():
        found += [(f"{prefix}{name}", value), *_dotted(value, f"{prefix}{name}.")]
    return found


def draw(space: Space, rng: random.Random) -> list[str]:
    """Return a random command line of one to four overrides."""
    good, bad = (_option, _option, _nearby), (_value, _unknown, _misspelt, _prefixed, _odd)
    kinds = good if rng.random() < 0.4 else (*good, *bad)
    arguments = [rng.choice(kinds)(space, rng) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
    if rng.random() < 0.15:
        arguments = ["-m", *arguments, _sweep(space, rng)]
    return arguments


def _option(space: Space, rng: random.Random) -> str:
    group = rng.choice(list(space.options))
    return f"{group}={rng.choice(space.options[group])}"


def _value(space: Space, rng: random.Random) -> str:
    return f"{_key(space, rng)}={rng.choice(VALUES)}"


def _nearby(space: Space, rng: random.Random) -> str:
    """Return a value much like the default."""
    numbers = [k for k, value in space.values.items() if isinstance(value, int | float)]
    key = rng.choice(numbers)
    value = space.values[key]
    if isinstance(value, bool):
        return f"{key}={rng.choice(('true', 'false'))}"
    return f"{key}={type(value)(value * rng.choice((0.5, 1, 1, 2)))}"


def _key(space: Space, rng: random.Random) -> str:
    return rng.choice(list(space.values))


def _unknown(space: Space, rng: random.Random) -> str:
    prefix = rng.choice(("", "+", "++", "~"))
    return f"{prefix}{_spoil(_key(space, rng), rng)}={rng.choice(VALUES)}"


def _misspelt(space: Space, rng: random.Random) -> str:
    group, _, option = _option(space, rng).partition("=")
    if rng.random() < 0.5:
        return f"{_spoil(group, rng)}={option}"
    return f"{group}={_spoil(option, rng)}"


def _prefixed(space: Space, rng: random.Random) -> str:
    prefix = rng.choice(("+", "++", "~"))
    if prefix == "~":
        return prefix + rng.choice((*space.values, *space.options))
    return prefix + rng.choice((_option, _value))(space, rng)


def _odd(space: Space, rng: random.Random) -> str:
    first, second = _option(space, rng), _option(space, rng)
    return rng.choice((*JUNK, *HYDRA, f"{first},{second}", first.replace("=", "=[") + "]"))


def _sweep(space: Space, rng: random.Random) -> str:
    if rng.random() < 0.5:
        group = rng.choice(list(space.options))
        return f"{group}={','.join(rng.sample(space.options[group], k=1) * 2)}"
    return f"{_key(space, rng)}={rng.choice(SWEEPS)}"


def _spoil(word: str, rng: random.Random) -> str:
    place = rng.randrange(len(word))
    return word[:place] + rng.choice(("", "x", word[place] * 2)) + word[place + 1 :]


def outcome(arguments: Sequence[str], *, dry_run: bool) -> str:
    """Return what a command line comes to: ``built``, ``valid`` or ``refused``.

    Raises:
        AssertionError: It is refused in more than a line, or without naming a key.
        Exception: Whatever a user would see a traceback of.
    """
    try:
        jobs = compose(arguments)
        for job in jobs:
            build_components(job)
        if not dry_run or TOO_MUCH.search(" ".join(arguments)):
            return "valid"
        for job in itertools.islice(jobs, 2):
            settings = replace(build_settings(job), dry_run=True)
            with contextlib.redirect_stdout(io.StringIO()):
                run_job(settings, rerun=False)
    except UserError as error:
        check_line(str(error), arguments)
        return "refused"
    return "built"


def check_line(line: str, arguments: Sequence[str]) -> None:
    """Hold a message to what users are promised."""
    assert "\n" not in line, line
    assert 10 < len(line) <= MOST_CHARACTERS, f"{len(line)} characters: {line}"
    words = [word for text in arguments for word in re.split(r"[^\w@/-]+", text) if len(word) > 1]
    if PRESETS.search(" ".join(arguments)):  # its file sets keys that the user has not typed
        words += re.findall(r"\b[a-z_]+(?:\.[a-z_]+|=[a-z_]+)", line)
    assert any(word in line for word in (*words, *arguments)), line
    assert not re.search(r"object at 0x|<class |Error\(", line), line


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Read every config file and backbone once, let no program run, and write to no terminal."""
    from hydra._internal.core_plugins.file_config_source import FileConfigSource

    from knexa.backbones import load
    from knexa.evaluation.metrics import BenchmarkReport
    from knexa.federation.llm import benchmark_check as checks

    @functools.cache
    def read(path: str, config_path: str) -> Any:
        return read_config(FileConfigSource(provider="", path=path), config_path)

    class Passing(checks.BenchmarkCheck):
        def _check(self) -> None:
            problems = tuple(self.benchmark)
            self._report = BenchmarkReport(
                problems=problems, num_canonical_passed=len(problems), num_none_passed=0, layers=()
            )

    read_config = FileConfigSource.load_config
    composition.register_sweeps()
    with contextlib.ExitStack() as stack:
        for owner, name, shared in (
            (
                FileConfigSource,
                "load_config",
                lambda s, config_path: copy.deepcopy(read(s.path, config_path)),
            ),
            (load, "load_backbone", functools.cache(load.load_backbone)),
            (checks, "BenchmarkCheck", Passing),
        ):
            stack.enter_context(mock.patch.object(owner, name, shared))
        logging.disable(logging.WARNING)
        stack.callback(logging.disable, logging.NOTSET)
        gc.collect()
        gc.freeze()  # what torch has made is looked through by every collection else
        stack.callback(gc.unfreeze)
        yield


def fuzz(num_lines: int, seed: int, *, dry_run_every: int = 1) -> dict[str, Any]:
    """Try that many command lines; return the figures, and each line that breaks the promise.

    Args:
        num_lines: How many.
        seed: Of the draw.
        dry_run_every: Of the lines that are valid, which share is built too: 2 is every other.
    """
    found: Counter[str] = Counter()
    broken: dict[str, str] = {}
    with sharing():
        space, rng = Space.of_configs(), random.Random(seed)
        for number in range(num_lines):
            arguments = draw(space, rng)
            try:
                came_to = outcome(arguments, dry_run=number % dry_run_every == 0)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                came_to = "broken"
                where = traceback.extract_tb(error.__traceback__)[-1]
                broken[" ".join(arguments)] = (
                    f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
                )
            found[came_to] += 1
    return {"lines": num_lines, "came_to": dict(sorted(found.items())), "broken": broken}


def main() -> None:
    """Print the figures and each line that breaks the promise, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    figures = fuzz(arguments.lines, arguments.seed)
    print(json.dumps(figures, indent=2))
    sys.exit(bool(figures["broken"]))


if __name__ == "__main__":
    main()
