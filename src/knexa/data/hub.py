"""``data=hub``: any data set of the Hugging Face hub in HumanEval's or MBPP's form.

| form      | fields                                                                          |
|-----------|---------------------------------------------------------------------------------|
| humaneval | task_id, prompt, entry_point, canonical_solution, test (defines ``check``)      |
| mbpp      | task_id, text, code, test_list; if any: test_setup_code, challenge_test_list    |

``columns`` names the data set's own column of a field where it is called otherwise. Without a
``task_id`` rows are numbered. The tests are trusted, and run outside the sandbox.
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from knexa.data import humaneval, mbpp
from knexa.data.benchmark import Benchmark, Dataset
from knexa.data.jsonl import draw_roles
from knexa.data.problem import Problem
from knexa.data.rows import Row, check_fields, hub_rows, rows_of_splits
from knexa.errors import UserError, one_line
from knexa.seeding import derive_rng

_FORMS: Mapping[str, Mapping[str, type]] = {
    "humaneval": {name: kind for name, kind in humaneval.FIELDS.items() if name != "task_id"},
    "mbpp": {"text": str, "code": str, "test_list": list},
}
_OPTIONAL: Mapping[str, Mapping[str, Any]] = {
    "humaneval": {},
    "mbpp": {"test_setup_code": "", "challenge_test_list": ()},
}


@dataclass(frozen=True, kw_only=True)
class Hub(Dataset):
    """Problems of a data set of the hub, or of a folder that ``datasets`` reads; see the module.

    Attributes:
        path: The data set, e.g. ``openai/openai_humaneval``, or a folder.
        revision: Commit of the data set on the hub; of a folder the content counts.
        config: The data set's configuration; None where it has one alone.
        split: The data set's split to read; None reads all.
        form: What its rows are like.
        columns: By field of the form: the data set's column, where it has another name.
        split_seed: Seeds the draw of the sets; not the run's seed, so that all runs of a study
            report on the same test set.
        test_fraction: Share of the problems that become test problems (rounded).
        transfer_fraction: Share of them that become transfer problems; the rest train.
    """

    name: ClassVar[str] = "hub"

    path: str | None = None
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None = None
    config: str | None = None
    split: str | None = None
    form: Literal["humaneval", "mbpp"] = "humaneval"
    columns: Mapping[str, str] | None = None
    split_seed: Annotated[int, Field(ge=0)] = 42
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    transfer_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2

    def __post_init__(self) -> None:
        if self.path is None:
            raise ValueError("path is not set; set data.path=OWNER/NAME, or a folder")
        if self.revision is None and self._folder is None:
            raise ValueError(
                f"revision is not set, and {self.path} is no folder; pin the data set's commit: "
                "data.revision=<40 hexadecimal digits>"
            )
        fields = ("task_id", *_FORMS[self.form], *_OPTIONAL[self.form])
        for name in self._columns:
            if name not in fields:
                near = get_close_matches(name, fields, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(fields)}"
                raise ValueError(f"columns.{name}: the form {self.form} has no such field; {hint}")
        if self.test_fraction + self.transfer_fraction >= 1:
            raise ValueError(
                "test_fraction + transfer_fraction leave nothing to train on; lower one"
            )

    @property
    def _columns(self) -> Mapping[str, str]:
        return self.columns or {}

    @property
    def _folder(self) -> Path | None:
        folder = Path(self.path or "").expanduser()
        return folder if folder.is_dir() else None

    def fingerprint(self) -> str:
        """Return the pinned revision, or the digest of a folder's files."""
        if self._folder is None:
            return f"hub:{self.path}@{self.revision}"
        digest = hashlib.sha256()
        for file in sorted(each for each in self._folder.rglob("*") if each.is_file()):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{file.relative_to(self._folder).as_posix()} {content}\n".encode())
        return f"sha256:{digest.hexdigest()}"

    def load(self) -> Benchmark:
        """Read, convert and draw; see the class."""
        problems: dict[str, Problem] = {}
        for number, row in enumerate(self._rows()):
            where = f"{self.path} row {number}"
            problem = self._problem(row, number, where)
            if problem.task_id in problems:
                raise UserError(f"{where}: task_id {problem.task_id!r} occurs twice")
            problems[problem.task_id] = problem
        rng = derive_rng(self.split_seed, "hub.split")
        sets = draw_roles(list(problems.values()), rng, self.test_fraction, self.transfer_fraction)
        for role, drawn in sets.items():
            if not drawn:
                raise UserError(f"{self.path}: {len(problems)} problems leave none for {role}")
        return Benchmark.of_roles(str(self.path), dict[str, list[Problem]](sets.items()))

    def _rows(self) -> list[Row]:
        assert self.path is not None
        if self._folder is None:
            assert self.revision is not None
            otherwise = "set data.path to a folder with a copy of it"
            return hub_rows(
                self.path, self.config, self.revision, split=self.split, otherwise=otherwise
            )
        import datasets

        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
        try:
            splits = datasets.load_dataset(str(self._folder), self.config)
        except Exception as error:
            reason = one_line(error)[:200]
            raise UserError(f"data.path={self.path}: datasets cannot read it ({reason})") from None
        return rows_of_splits(splits, self.split)

    def _problem(self, row: Row, number: int, where: str) -> Problem:
        """Return the problem of a row, whose columns get the names of the form first."""
        required, optional = _FORMS[self.form], _OPTIONAL[self.form]
        named = {name: self._columns.get(name, name) for name in (*required, *optional)}
        check_fields(row, {named[name]: kind for name, kind in required.items()}, where)
        found = {name: row[named[name]] for name in required}
        found |= {name: row.get(named[name]) or empty for name, empty in optional.items()}
        task_id = str(row.get(self._columns.get("task_id", "task_id"), number))
        convert = humaneval.humaneval_problem if self.form == "humaneval" else mbpp.mbpp_problem
        try:
            problem = convert({**found, "task_id": task_id})
        except (ValueError, SyntaxError) as error:
            raise UserError(f"{where}: {error}; form={self.form} does not fit it") from None
        return replace(problem, task_id=task_id, source="hub")
