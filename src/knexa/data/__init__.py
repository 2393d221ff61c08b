"""Problems, benchmarks, and their partition among agents."""

from pathlib import Path

from knexa.data.problem import Problem
from knexa.errors import UserError

BENCHMARKS = ("humaneval", "mbpp", "codelets")


def load_problems(name: str, path: Path | None = None) -> list[Problem]:
    """Return all problems of one benchmark: train, test and transfer.

    Args:
        name: One of ``BENCHMARKS``.
        path: Folder (or file) with the published JSONL; None reads the hub. Codelets are generated
            and take none.

    Raises:
        UserError: On another name, or data that is missing or damaged.
    """
    if name == "humaneval":
        from knexa.data.humaneval_mbpp import load_humaneval

        return load_humaneval(path)
    if name == "mbpp":
        from knexa.data.humaneval_mbpp import load_mbpp

        return load_mbpp(path)
    if name == "codelets":
        from knexa.data.codelets import Codelets

        if path is not None:
            raise UserError("codelets are generated and read no files; leave the path out")
        return list(Codelets().load())
    raise UserError(f"no benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}")
