"""``data=humaneval_mbpp``: the published pool of 464 problems, and a transfer set outside it.

The pool is HumanEval's 164 problems and the first 300 of MBPP's test split (ids 11-310), split
348/116 into the agents' training pool and the global test set. The 128 transfer problems and the 64
probe problems are drawn from MBPP outside the pool (test 311-510, validation 511-600, train
601-974; not the ten few-shot prompts 1-10), without those that repeat a problem of the pool or an
earlier one.
"""

import ast
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from knexa.data import humaneval, mbpp
from knexa.data.benchmark import Benchmark, Dataset
from knexa.data.problem import Problem
from knexa.data.rows import Row, check_fields, find_file, hub_rows, read_rows, text_digest
from knexa.data.source_code import parse, shape, whole_program
from knexa.errors import UserError
from knexa.seeding import derive_rng

_LOG = logging.getLogger(__name__)

HUMANEVAL_REVISION = "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"
MBPP_REVISION = "4bb6404fdc6cacfda99d4ac4205087b89d32030c"
NUM_POOL = 464
POOL_MBPP = range(11, 311)
_TRANSFER_MBPP = range(311, 975)


@dataclass(frozen=True, kw_only=True)
class PoolSplit(Dataset):
    """Base of the data sets that split a pool, and draw what is public from problems outside it.

    Class attributes:
        num_pool: Problems of the pool.

    Attributes:
        split_seed: Seeds the split and the draw of the transfer set; not the run's seed, so that
            all runs of a study report on the same test set.
        num_train: Problems of the agents' training pool.
        num_test: Global test problems.
        num_transfer: Transfer problems.
        num_probe: Probe problems.
    """

    num_pool: ClassVar[int]

    split_seed: Annotated[int, Field(ge=0)] = 42
    num_train: Annotated[int, Field(ge=1)]
    num_test: Annotated[int, Field(ge=1)]
    num_transfer: Annotated[int, Field(ge=1)] = 128
    num_probe: Annotated[int, Field(ge=0)] = 64

    def __post_init__(self) -> None:
        """Check that the pool is large enough."""
        if self.num_train + self.num_test > self.num_pool:
            raise ValueError(
                f"num_train + num_test is {self.num_train + self.num_test}, but the pool has "
                f"{self.num_pool} problems; lower one of them"
            )

    def num_train_problems(self) -> int:
        """Return ``num_train``."""
        return self.num_train


@dataclass(frozen=True, kw_only=True)
class HumanEvalMBPP(PoolSplit):
    """HumanEval and MBPP as in the published study.

    Attributes:
        path: Folder with HumanEval.jsonl.gz and mbpp.jsonl.gz (or .jsonl); None reads the hub.
        humaneval_revision: Commit of openai/openai_humaneval on the hub.
        mbpp_revision: Commit of google-research-datasets/mbpp on the hub.
    """

    name: ClassVar[str] = "humaneval_mbpp"
    num_pool: ClassVar[int] = NUM_POOL

    path: str | None = None
    humaneval_revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] = HUMANEVAL_REVISION
    mbpp_revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] = MBPP_REVISION
    num_train: Annotated[int, Field(ge=1)] = 348
    num_test: Annotated[int, Field(ge=1)] = 116

    def fingerprint(self) -> str:
        """Return the digest of the local files, or the pinned revisions."""
        if self.path is None:
            return f"hub:humaneval@{self.humaneval_revision},mbpp@{self.mbpp_revision}"
        digests = [text_digest(find_file(self.path, stem)) for stem in ("HumanEval", "mbpp")]
        return "sha256:" + hashlib.sha256("".join(digests).encode()).hexdigest()

    def load(self) -> Benchmark:
        """Read, split and draw; see the class."""
        published = load_mbpp(self.path, self.mbpp_revision)
        by_id = {problem.task_id: problem for problem in published}
        pool = load_humaneval(self.path, self.humaneval_revision)
        pool += [by_id[f"MBPP/{number}"] for number in POOL_MBPP]
        order = pool_order(self.split_seed)
        test = sorted(order[: self.num_test])
        train = sorted(order[self.num_test : self.num_test + self.num_train])
        transfer, probe = draw_public(
            [by_id[f"MBPP/{number}"] for number in _TRANSFER_MBPP],
            pool,
            derive_rng(self.split_seed, "humaneval_mbpp.transfer"),
            num_transfer=self.num_transfer,
            num_probe=self.num_probe,
        )
        return Benchmark(
            name="humaneval_mbpp",
            train=tuple(pool[index] for index in train),
            test=tuple(pool[index] for index in test),
            transfer=transfer,
            probe=probe,
        )


def pool_order(split_seed: int) -> list[int]:
    """Return the places of the pool's problems in drawn order: the test set, then the others."""
    order = derive_rng(split_seed, "humaneval_mbpp.split").permutation(NUM_POOL)
    return [int(place) for place in order]


def draw_public(
    candidates: Sequence[Problem],
    pool: Sequence[Problem],
    rng: np.random.Generator,
    *,
    num_transfer: int,
    num_probe: int,
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Draw the transfer and the probe set from the candidates that repeat no other problem.

    Raises:
        UserError: There are too few.
    """
    vetted = without_repeats(candidates, of=pool)
    _LOG.info(
        "data: %d of %d MBPP problems outside the pool repeat another and are not drawn",
        len(candidates) - len(vetted),
        len(candidates),
    )
    total = num_transfer + num_probe
    if total > len(vetted):
        raise UserError(
            f"data.num_transfer + data.num_probe is {total}, but only {len(vetted)} problems "
            "lie outside the pool; lower one of them"
        )
    order = rng.permutation(len(vetted))
    drawn = order[:num_transfer], order[num_transfer:total]
    transfer, probe = (tuple(vetted[i] for i in sorted(each.tolist())) for each in drawn)
    return transfer, probe


def load_humaneval(path: str | Path | None, revision: str = HUMANEVAL_REVISION) -> list[Problem]:
    """Return HumanEval's 164 problems from a folder or file, or the hub where path is None."""
    return _load(
        path,
        "HumanEval",
        ("openai/openai_humaneval", "openai_humaneval", revision),
        humaneval.FIELDS,
        humaneval.humaneval_problem,
        humaneval.NUM_PROBLEMS,
    )


def load_mbpp(path: str | Path | None, revision: str = MBPP_REVISION) -> list[Problem]:
    """Return MBPP's 974 problems from a folder or file, or the hub where path is None."""
    return _load(
        path,
        "mbpp",
        ("google-research-datasets/mbpp", "full", revision),
        mbpp.FIELDS,
        mbpp.mbpp_problem,
        mbpp.NUM_PROBLEMS,
    )


PUBLISHED = {"humaneval": load_humaneval, "mbpp": load_mbpp}
"""How each of the two benchmarks is read whole."""


def without_repeats(candidates: Iterable[Problem], of: Iterable[Problem]) -> list[Problem]:
    """Return the candidates that share no sentence, entry point or solution with ``of`` or earlier.

    Sentences are compared by their words, entry points by their letters and digits, solutions by
    their syntax tree with their own names numbered.
    """
    seen = {key for problem in of for key in _identities(problem)}
    kept = []
    for problem in candidates:
        keys = _identities(problem)
        if seen.isdisjoint(keys):
            kept.append(problem)
        seen.update(keys)
    return kept


def _identities(problem: Problem) -> set[tuple[str, str]]:
    """Return keys, of which two problems that repeat each other share at least one."""
    docstring = re.split(r'"""|\'\'\'', problem.prompt)
    sentence = re.split(r">>>|\bassert\b", docstring[1])[0] if len(docstring) > 1 else ""
    words = re.findall(r"[a-z0-9]+", sentence.lower())
    text = re.sub(r"^write a (python )?(function|program) (to|that) ", "", " ".join(words))
    name = re.sub(r"[^a-z0-9]", "", problem.entry_point.lower())
    program = whole_program(problem.prompt, problem.canonical_solution, problem.entry_point)
    return {("text", text), ("name", name), ("solution", shape(_undocumented(program)))}


def _undocumented(program: str) -> str:
    """Return the program without docstrings, so that only code is compared."""
    tree = parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _load(
    path: str | Path | None,
    stem: str,
    hub: tuple[str, str, str],
    fields: Mapping[str, type],
    convert: Callable[[Mapping[str, Any]], Problem],
    num_problems: int,
) -> list[Problem]:
    """Read, check and convert all rows of one benchmark, in the order of their ids."""
    rows: list[tuple[str, Row]]
    if path is None:
        rows = [(f"{hub[0]}:{index}", row) for index, row in enumerate(hub_rows(*hub))]
        origin = hub[0]
    else:
        file = find_file(path, stem)
        rows = [(f"{file}:{number}", row) for number, row in read_rows(file)]
        origin = str(file)
    problems: dict[str, Problem] = {}
    for where, row in rows:
        check_fields(row, fields, where)
        try:
            problem = convert(row)
        except (ValueError, SyntaxError) as error:
            raise UserError(f"{where}: {error}; fetch the file again") from None
        problems[problem.task_id] = problem
    if len(problems) != num_problems:
        raise UserError(
            f"{origin}: {len(problems)} problems where {num_problems} belong; fetch the file again"
        )
    return sorted(problems.values(), key=lambda problem: int(problem.task_id.split("/")[1]))
