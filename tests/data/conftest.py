import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """The folder with the public benchmark files; their absence may not go unnoticed in CI."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("KNEXA_BENCHMARKS", default))
    if not (folder / "HumanEval.jsonl.gz").is_file():
        message = f"no HumanEval.jsonl.gz in {folder}; set KNEXA_BENCHMARKS to a folder that has it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
