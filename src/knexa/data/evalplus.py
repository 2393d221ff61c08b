"""HumanEval+ and MBPP+ (Liu et al. 2023): problems with original tests, and many hidden ones.

The files are EvalPlus' own releases, known by their digests. Both kinds of tests are judged by its
rules (``evalplus_rules``) against what its canonical solutions answer. ``data=evalplus`` splits
the problems as ``data=humaneval_mbpp`` does.
"""

import gzip
import hashlib
import inspect
import json
import logging
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from knexa.data import evalplus_rules, humaneval, mbpp, mbpp_plus_inputs
from knexa.data.benchmark import Benchmark
from knexa.data.benchmark_quirks import ANSWERS_TOO_LARGE
from knexa.data.humaneval_mbpp import POOL_MBPP, PoolSplit, draw_public, pool_order
from knexa.data.problem import HiddenTests, Problem
from knexa.data.reference_outputs import Reference, reference_outputs
from knexa.data.rows import Row, check_fields, find_file, read_rows, text_digest
from knexa.data.user_cache import cache_folder, write_whole
from knexa.errors import UserError, one_line
from knexa.seeding import derive_rng

_LOG = logging.getLogger(__name__)

NUM_POOL = 320
"""HumanEval+'s 164 problems, and the 156 of MBPP+ that lie in the published pool."""
_TIMEOUT_S = 60.0
_PUBLISHED_FIELDS = {
    "task_id": str,
    "prompt": str,
    "entry_point": str,
    "canonical_solution": str,
    "base_input": list,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One file of EvalPlus, and the digest of its unpacked text."""

    title: str
    stem: str
    version: str
    sha256: str
    num_problems: int

    @property
    def url(self) -> str:
        """Where EvalPlus publishes it."""
        return (
            f"https://github.com/evalplus/{self.stem.lower()}_release/releases/download/"
            f"{self.version}/{self.stem}.jsonl.gz"
        )

    def file(self, path: str | Path | None) -> Path:
        """Return the file in a folder, or in the user's cache, where it is fetched to.

        Raises:
            UserError: It is not there, cannot be fetched, or is another version.
        """
        file = self._fetched() if path is None else find_file(path, self.stem)
        digest = text_digest(file)
        if digest != self.sha256:
            raise UserError(
                f"{file}: is not {self.title} {self.version} (the SHA-256 of its text begins with "
                f"{digest[:12]}, not {self.sha256[:12]}); fetch {self.url}"
            )
        return file

    def _fetched(self) -> Path:
        file = cache_folder() / "evalplus" / f"{self.stem}-{self.version}.jsonl.gz"
        if file.is_file():
            return file
        _LOG.warning("fetching %s, once", self.url)
        elsewhere = f"set data.path=DIR to a folder with {self.stem}.jsonl.gz, or go online once"
        try:
            with urllib.request.urlopen(self.url, timeout=_TIMEOUT_S) as response:
                content = response.read()
            text = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{self.url} did not load ({one_line(error)}); {elsewhere}") from None
        if hashlib.sha256(text).hexdigest() != self.sha256:
            raise UserError(f"{self.url} is not {self.title} {self.version}; {elsewhere}")
        write_whole(file, content)
        return file


HUMANEVAL_PLUS = Release(
    title="HumanEval+",
    stem="HumanEvalPlus",
    version="v0.1.10",
    sha256="42526ec0e7d5f3ee0b06d6ced98f8c8bae3d76519151bfb3d36f79010645bd7f",
    num_problems=164,
)
MBPP_PLUS = Release(
    title="MBPP+",
    stem="MbppPlus",
    version="v0.2.0",
    sha256="b54e762755248ca411b523c917fa9f93c07b5ff2966bf60b3917b853926a3dad",
    num_problems=378,
)


@dataclass(frozen=True, kw_only=True)
class EvalPlus(PoolSplit):
    """HumanEval+ and MBPP+, split like the published study's pool.

    Problems of the pool keep the order in which ``data=humaneval_mbpp`` draws them, so at the same
    ``split_seed`` and the default sizes each has the role that it has there.

    Attributes:
        path: Folder with HumanEvalPlus.jsonl.gz and MbppPlus.jsonl.gz (or .jsonl); None fetches
            EvalPlus' releases into the user's cache.
    """

    name: ClassVar[str] = "evalplus"
    num_pool: ClassVar[int] = NUM_POOL

    path: str | None = None
    num_train: Annotated[int, Field(ge=1)] = 239
    num_test: Annotated[int, Field(ge=1)] = 81

    def fingerprint(self) -> str:
        """Return the digests of the two files, which are the same wherever they lie."""
        if self.path is not None:
            for release in (HUMANEVAL_PLUS, MBPP_PLUS):
                release.file(self.path)
        return f"sha256:{HUMANEVAL_PLUS.sha256},{MBPP_PLUS.sha256}"

    def load(self) -> Benchmark:
        """Read, split and draw; see the class. The first time, reference outputs are computed."""
        return _loaded(self)

    def split(self) -> Benchmark:
        """Return what ``load`` returns, read anew."""
        published = [*load_humaneval_plus(self.path), *load_mbpp_plus(self.path)]
        hidden = {each.task_id: each for each in published}
        ids = [*(f"HumanEval/{n}" for n in range(164)), *(f"Mbpp/{n}" for n in POOL_MBPP)]
        order = [place for place in pool_order(self.split_seed) if ids[place] in hidden]
        assert len(order) == NUM_POOL
        test = [hidden[ids[place]] for place in sorted(order[: self.num_test])]
        train = sorted(order[self.num_test : self.num_test + self.num_train])
        outside = [
            each.problem
            for each in hidden.values()
            if each.task_id.startswith("Mbpp") and _number(each.task_id) > max(POOL_MBPP)
        ]
        transfer, probe = draw_public(
            outside,
            [hidden[ids[place]].problem for place in order],
            derive_rng(self.split_seed, "evalplus.transfer"),
            num_transfer=self.num_transfer,
            num_probe=self.num_probe,
        )
        return Benchmark(
            name="evalplus",
            train=tuple(hidden[ids[place]].problem for place in train),
            test=tuple(each.problem for each in test),
            transfer=transfer,
            probe=probe,
            hidden=(*test, *(hidden[problem.task_id] for problem in transfer)),
        )


@lru_cache(maxsize=1)
def _loaded(data: EvalPlus) -> Benchmark:
    """Return the data set's problems, read once for all runs of a process."""
    return data.split()


def load_humaneval_plus(path: str | Path | None) -> list[HiddenTests]:
    """Return HumanEval+'s problems; from a folder or file, or EvalPlus where path is None."""
    rows = _rows(HUMANEVAL_PLUS, path)
    return _with_tests(HUMANEVAL_PLUS, rows, [humaneval.humaneval_problem(row) for row in rows])


def load_mbpp_plus(path: str | Path | None) -> list[HiddenTests]:
    """Return MBPP+'s problems; from a folder or file, or EvalPlus where path is None."""
    rows = _rows(MBPP_PLUS, path)
    for row in rows:
        number, left_out = _number(row["task_id"]), ANSWERS_TOO_LARGE.get(row["task_id"], ())
        # Mbpp/793 has no further inputs: {}.
        plus = [each for i, each in enumerate(row["plus_input"] or []) if i not in left_out]
        row["base_input"] = mbpp_plus_inputs.restored(number, row["base_input"])
        row["plus_input"] = mbpp_plus_inputs.restored(number, plus)
    return _with_tests(MBPP_PLUS, rows, [_mbpp_problem(row) for row in rows])


WITH_HIDDEN = {"humaneval_plus": load_humaneval_plus, "mbpp_plus": load_mbpp_plus}
"""How each of the two benchmarks is read whole."""


def _rows(release: Release, path: str | Path | None) -> list[Row]:
    """Return a release's rows, in the order of their ids."""
    file = release.file(path)
    rows = []
    for number, row in read_rows(file):
        check_fields(row, _PUBLISHED_FIELDS, f"{file}:{number}")
        rows.append(row)
    assert len(rows) == release.num_problems
    return sorted(rows, key=lambda row: _number(row["task_id"]))


def _number(task_id: str) -> int:
    return int(task_id.split("/")[1])


def _mbpp_problem(row: Row) -> Problem:
    """Return the problem of an MBPP+ row, prompted as ``mbpp`` prompts its problems."""
    lines = row["prompt"].strip().strip('"').strip().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("assert"))
    problem = mbpp.mbpp_problem(
        {
            "task_id": _number(row["task_id"]),
            "text": "\n".join(lines[:first]),
            "code": row["canonical_solution"],
            "test_list": ["\n".join(lines[first:])],
            "test_setup_code": "",
            "challenge_test_list": [],
        }
    )
    assert problem.entry_point == row["entry_point"]
    return replace(problem, task_id=row["task_id"])


def _with_tests(
    release: Release, rows: Sequence[Row], problems: Sequence[Problem]
) -> list[HiddenTests]:
    """Return the problems with EvalPlus' original inputs as public tests, its others as hidden."""
    sets = ("base_input", "plus_input")
    answers = reference_outputs(
        release.sha256,
        {
            f"{row['task_id']} {name}": Reference(
                row["prompt"] + row["canonical_solution"], row["entry_point"], row[name]
            )
            for row in rows
            for name in sets
        },
    )
    source = release.stem.removesuffix("Plus").lower() + "_plus"
    found = []
    for row, problem in zip(rows, problems, strict=True):
        public, hidden = (_test_code(row, row[n], answers[f"{row['task_id']} {n}"]) for n in sets)
        problem = replace(problem, test_code=public, setup_code="", source=source)
        found.append(HiddenTests(problem=problem, test_code=hidden))
    return found


_RULES_SOURCE = inspect.getsource(evalplus_rules)


def _test_code(row: Row, inputs: Sequence[Any], answers: Sequence[Any]) -> str:
    """Return tests that judge the answers to these inputs by EvalPlus' rules."""
    pairs = zip(inputs, answers, strict=True)
    cases = json.dumps([[evalplus_rules.encode(list(given)), answer] for given, answer in pairs])
    reference = row["prompt"] + row["canonical_solution"], row["entry_point"]
    return (
        f"{_RULES_SOURCE}\n\n"
        f"judge(\n    candidate,\n    {cases!r},\n"
        f"    rule={evalplus_rules.RULES.get(row['entry_point'], '')!r},\n"
        f"    atol={row['atol']!r},\n    reference={reference!r},\n)\n"
    )
