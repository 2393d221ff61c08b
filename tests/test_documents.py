"""The documents: lines that fit, and names of files and modules that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
WIDTH = 100

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)


def prose(text: str) -> list[str]:
    """Return the lines without code blocks, tables, headings, images and HTML."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in text.splitlines() if not re.match(r" {4}|\s*(\||#|<|!\[)", line)]


@every_document
def test_prose_wraps(path: Path) -> None:
    for line in prose(path.read_text(encoding="utf-8")):
        without_addresses = re.sub(r"\]\([^)]*\)|https?://\S+", "]", line)
        assert len(without_addresses) <= WIDTH, line


@every_document
def test_modules_and_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\bknexa(?:\.[a-z_]+)+\b(?!\.)", text):
        if name == "knexa.x.subprocess":  # an example of what is refused
            continue
        place = ROOT / "src" / Path(*name.split("."))
        command = ROOT / "src/knexa/cli/modules" / f"{name.rpartition('.')[2]}.py"
        found = place.is_dir() or place.with_suffix(".py").is_file() or command.is_file()
        # Else the last word may be one that the module defines, or the package offers.
        owner, package = place.parent.with_suffix(".py"), place.parent / "__init__.py"
        found = found or (owner.is_file() and place.name in owner.read_text("utf-8"))
        found = found or (package.is_file() and f'"{place.name}"' in package.read_text("utf-8"))
        assert found, name
    for name in re.findall(r"\b(?:src/knexa|benchmarks|tests)/[\w/]+\.py\b", text):
        assert (ROOT / name).is_file(), name


def test_tests_that_docs_security_names_exist() -> None:
    """``file.py::name``, where the folder or, after a first name, the file may be left out."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:[\w/]*test_\w+\.py)?)(?:::(\w+))?`", text)
    assert any(test for _, test in named)
    sources = list[str]()
    for file, test in named:
        if file:
            found = [path for path in (ROOT / "tests").rglob("*.py") if path.match(file)]
            assert found, file
            sources = [path.read_text(encoding="utf-8") for path in found]
        assert not test or any(f"def {test}(" in source for source in sources), f"{file}::{test}"
