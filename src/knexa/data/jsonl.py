"""``data=jsonl``: problems from the user's own file, one JSON object a line.

| field              | type         | meaning                                                     |
|--------------------|--------------|-------------------------------------------------------------|
| task_id            | str          | unique name                                                 |
| prompt             | str          | imports, signature, docstring; none of the solution         |
| entry_point        | str          | the function that the tests call                             |
| canonical_solution | str          | continues the prompt, or a program that defines the entry   |
| test_code          | str          | asserts that call ``candidate`` or the entry point          |
| setup_code         | str, if any  | imports and classes that program and tests both need        |
| category           | str or int   | name or index of a category; absent: by rules               |
| split              | str          | train, test, transfer or probe; absent: drawn               |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from knexa.data.benchmark import Benchmark, Dataset
from knexa.data.categories import categorize
from knexa.data.problem import CATEGORIES, Problem
from knexa.data.rows import check_fields, read_rows, text_digest
from knexa.data.source_code import parse, top_level_functions, whole_program
from knexa.errors import UserError
from knexa.seeding import derive_rng

Role = Literal["train", "test", "transfer", "probe"]

_REQUIRED: Mapping[str, type] = {
    "task_id": str,
    "prompt": str,
    "entry_point": str,
    "canonical_solution": str,
    "test_code": str,
}
_OPTIONAL = ("setup_code", "category", "split")
_ROLES: tuple[Role, ...] = ("train", "test", "transfer", "probe")
_OPTIONAL_ROLE: Role = "probe"


@dataclass(frozen=True, kw_only=True)
class Jsonl(Dataset):
    """Problems from a .jsonl or .jsonl.gz file; the module documents its fields.

    Attributes:
        path: The file.
        split_seed: Seeds the draw of lines without ``split``; not the run's seed, so that all runs
            of a study report on the same test set.
        test_fraction: Share of the lines without ``split`` that become test problems (rounded).
        transfer_fraction: Share of them that become transfer problems; the rest train. Probe
            problems are those with ``split`` alone.
    """

    name: ClassVar[str] = "jsonl"

    path: str | None = None
    split_seed: Annotated[int, Field(ge=0)] = 42
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    transfer_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2

    def __post_init__(self) -> None:
        if self.path is None:
            raise ValueError("path is not set; set data.path=FILE.jsonl")
        if self.test_fraction + self.transfer_fraction >= 1:
            raise ValueError(
                "test_fraction + transfer_fraction leave nothing to train on; lower one"
            )

    def fingerprint(self) -> str:
        """Return the digest of the file's text."""
        return f"sha256:{text_digest(self._file())}"

    def load(self) -> Benchmark:
        """Read, check and split the problems."""
        file = self._file()
        sets: dict[Role, list[Problem]] = {role: [] for role in _ROLES}
        undecided: list[Problem] = []
        first_lines: dict[str, int] = {}
        for number, row in read_rows(file):
            where = f"{file}:{number}"
            problem, role = parse_row(row, where)
            if problem.task_id in first_lines:
                raise UserError(
                    f"{where}: task_id {problem.task_id!r} stands on line "
                    f"{first_lines[problem.task_id]} already; give every problem its own"
                )
            first_lines[problem.task_id] = number
            (sets[role] if role else undecided).append(problem)
        fractions = self.test_fraction, self.transfer_fraction
        drawn = draw_roles(undecided, derive_rng(self.split_seed, "jsonl.split"), *fractions)
        for role, problems in drawn.items():
            sets[role] += problems
        for role, problems in sets.items():
            if not problems and role != _OPTIONAL_ROLE:
                raise UserError(f"{file}: no {role} problems; mark some with split={role}")
        name = file.name.split(".")[0]
        try:
            return Benchmark.of_roles(name, dict[str, list[Problem]](sets.items()))
        except ValueError as error:
            raise UserError(f"{file}: {error}") from None

    def _file(self) -> Path:
        assert self.path is not None
        file = Path(self.path).expanduser()
        if not file.is_file():
            raise UserError(f"data.path={self.path}: no such file; set it to a JSONL file")
        return file


def draw_roles(
    problems: Sequence[Problem],
    rng: np.random.Generator,
    test_fraction: float,
    transfer_fraction: float,
) -> dict[Role, list[Problem]]:
    """Split problems into test, transfer and train sets, each in the given order."""
    order = rng.permutation(len(problems)).tolist()
    num_test = round(test_fraction * len(problems))
    num_transfer = round(transfer_fraction * len(problems))
    parts: dict[Role, list[int]] = {
        "test": order[:num_test],
        "transfer": order[num_test : num_test + num_transfer],
        "train": order[num_test + num_transfer :],
    }
    return {role: [problems[index] for index in sorted(part)] for role, part in parts.items()}


def parse_row(row: Mapping[str, Any], where: str) -> tuple[Problem, Role | None]:
    """Return one line's problem and its set, None where it is to be drawn.

    Raises:
        UserError: On a field that is missing, unknown or wrong; begins with ``where``.
    """
    check_fields(row, _REQUIRED, where)
    allowed = (*_REQUIRED, *_OPTIONAL)
    for name in row:
        if name not in allowed:
            near = get_close_matches(name, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(allowed)}"
            raise UserError(f"{where}: unknown field {name}; {hint}")
    setup_code = row.get("setup_code") or ""
    check_fields({"setup_code": setup_code}, {"setup_code": str}, where)
    _check_code({**row, "setup_code": setup_code}, where)
    prompt, entry_point = row["prompt"].rstrip("\n") + "\n", row["entry_point"]
    category = _category(row.get("category"), where)
    if category is None:
        category = categorize(prompt, row["canonical_solution"], entry_point)
    role = row.get("split")
    if role not in (None, *_ROLES):
        raise UserError(f"{where}: field split is {role!r:.40}; use one of {', '.join(_ROLES)}")
    problem = Problem(
        task_id=row["task_id"],
        prompt=prompt,
        entry_point=entry_point,
        canonical_solution=row["canonical_solution"],
        test_code=row["test_code"],
        setup_code=setup_code,
        category=category,
        source="jsonl",
    )
    return problem, role


def _check_code(row: Mapping[str, Any], where: str) -> None:
    """Raise UserError where code does not parse, defines no entry point or gives itself away."""
    for name in ("task_id", "entry_point", "canonical_solution", "test_code"):
        if not row[name].strip():
            raise UserError(f"{where}: field {name} is empty; fill it in")
    solution = row["canonical_solution"]
    program = whole_program(row["prompt"].rstrip("\n") + "\n", solution, row["entry_point"])
    sources = {
        "canonical_solution": program,
        "test_code": row["test_code"],
        "setup_code": row["setup_code"],
    }
    for name, source in sources.items():
        try:
            parse(source)
        except (SyntaxError, ValueError) as error:
            what = "not Python after the prompt" if source is program else "not Python"
            raise UserError(f"{where}: field {name}: {what} ({error}); mend it") from None
    if row["entry_point"] not in top_level_functions(program):
        raise UserError(
            f"{where}: field entry_point: prompt and canonical_solution define no top-level "
            f"function {row['entry_point']!r:.40}"
        )
    if solution.strip() in row["prompt"]:
        raise UserError(f"{where}: field prompt holds the canonical solution; take it out")


def _category(value: Any, where: str) -> int | None:
    """Return a category's index from its name or index; None stands for the rules."""
    if value is None:
        return None
    if isinstance(value, str) and value in CATEGORIES:
        return CATEGORIES.index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(CATEGORIES):
        return value
    raise UserError(
        f"{where}: field category is {value!r:.40}; use 0-{len(CATEGORIES) - 1} or one of "
        f"{', '.join(CATEGORIES)}"
    )
