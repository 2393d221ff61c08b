"""What canonical solutions answer: computed once for a benchmark file, and kept.

    $XDG_CACHE_HOME/knexa/references/KEY.json.gz    (~/.cache/knexa where the variable is not set)

The programs run in plain interpreters of their own, not in the sandbox: only those of files whose
digest is known come here, which are as trusted as their tests.
"""

import gzip
import hashlib
import inspect
import json
import logging
import os
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knexa.data import evalplus_rules
from knexa.data.user_cache import cache_folder, write_whole
from knexa.errors import UserError

_LOG = logging.getLogger(__name__)

MOST_KEPT = 1 << 16
"""Encoded characters of an answer from which on it is computed again where it is needed."""
_TIMEOUT_S = 1800.0

_WORKER = """
import sys

def answers(program, entry_point, inputs):
    function = compiled(program, entry_point)
    for arguments in inputs:
        found = function(*copy.deepcopy(arguments))
        if RULES.get(entry_point) == "not_none":
            found = found is not None
        answer = encode(found)
        yield encode(AGAIN) if len(json.dumps(answer)) > %d else answer

asked = json.load(sys.stdin)
json.dump([list(answers(*each[:2], decode(each[2]))) for each in asked], sys.stdout)
"""


@dataclass(frozen=True, slots=True)
class Reference:
    """A trusted program with its entry point, and the arguments of each call."""

    program: str
    entry_point: str
    inputs: Sequence[Any]


def reference_outputs(key: str, references: Mapping[str, Reference]) -> dict[str, list[Any]]:
    """Return what each program answers to each input, as ``evalplus_rules.encode`` writes it.

    Args:
        key: A digest of the file that the references were read from.
        references: By task id.

    Raises:
        UserError: An interpreter could not run them.
    """
    worker = _WORKER % MOST_KEPT
    version = ".".join(map(str, sys.version_info[:2]))
    made_by = f"{key} {version} {worker} {inspect.getsource(evalplus_rules.encode)}"
    digest = hashlib.sha256(made_by.encode()).hexdigest()[:32]
    file = cache_folder() / "references" / f"{digest}.json.gz"
    found = _read(file)
    if found is None or found.keys() != references.keys():
        _LOG.warning(
            "computing the reference outputs of %d problems, once: about a minute", len(references)
        )
        found = _compute(inspect.getsource(evalplus_rules) + worker, references)
        _keep(file, found)
    return found


def _compute(source: str, references: Mapping[str, Reference]) -> dict[str, list[Any]]:
    """Run the programs in as many interpreters as there are cores."""
    names = list(references)
    num = len(os.sched_getaffinity(0))
    parts = [names[first::num] for first in range(num)]

    def run(part: list[str]) -> list[Any]:
        asked = [
            (each.program, each.entry_point, json.dumps(evalplus_rules.encode(list(each.inputs))))
            for each in map(references.__getitem__, part)
        ]
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", source],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            env={"LC_ALL": "C.UTF-8"},
        )
        if done.returncode:
            reason = next(reversed(done.stderr.strip().splitlines()), f"exit {done.returncode}")
            raise UserError(f"the reference outputs of the benchmark did not compute: {reason}")
        answers: list[Any] = json.loads(done.stdout)
        return answers

    with ThreadPoolExecutor(num) as pool:
        ran = list(pool.map(run, parts))
    answers = {
        name: found
        for part, outputs in zip(parts, ran, strict=True)
        for name, found in zip(part, outputs, strict=True)
    }
    return {name: answers[name] for name in names}


def _read(file: Path) -> dict[str, list[Any]] | None:
    """Return what is kept; None if it is missing or damaged."""
    try:
        found: dict[str, list[Any]] = json.loads(gzip.decompress(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        _LOG.warning("%s cannot be read (%s) and is made again", file, error)
        return None
    return found


def _keep(file: Path, found: dict[str, list[Any]]) -> None:
    try:
        write_whole(file, gzip.compress(json.dumps(found).encode(), mtime=0))
    except OSError as error:
        _LOG.warning("the reference outputs are not kept for the next run: %s", error)
