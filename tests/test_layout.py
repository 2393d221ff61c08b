"""The package's rooms import one way: down the list."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "knexa"

ROOMS = (
    "api",
    "cli",
    "config",
    "report",
    "membership_inference",
    "network",
    "federation",
    "protocols",
    "matchmaking",
    "profiles",
    "agents",
    "exchange",
    "backbones",
    "engine",
    "tracking",
    "evaluation",
    "sandbox",
    "data",
    "base",
)
"""From top to bottom; a room imports itself and what stands below it."""

API_FILES = {"__init__", "conf"}
CLI_FILES = {"__main__"}
BASE_FILES = {"errors", "recipe", "seeding", "statistics"}

HEAVY = {
    "torch",
    "transformers",
    "peft",
    "lightning",
    "datasets",
    "wandb",
    "matplotlib",
    "rustworkx",
    "scipy",
    "grpc",
    "google",
    "cryptography",
    "pandas",
}


def python_files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str:
    """Return the room of a module, given its path inside the package."""
    first = parts[0] if parts else "__init__"
    if first in API_FILES:
        return "api"
    if first in CLI_FILES:
        return "cli"
    return "base" if first in BASE_FILES else first


def imported_modules(tree: ast.AST, package: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the dotted names that a module imports; ``package`` is where relative ones start."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    room = room_of(parts)
    assert room in ROOMS, f"{room} has no place in the order of rooms"
    if parts[-1] == "__main__":
        return  # a room's own command line may import anything
    for module in imported_modules(
        ast.parse(path.read_text(encoding="utf-8")), ("knexa", *parts[:-1])
    ):
        names = module.split(".")
        if names[0] != "knexa" or len(names) < 2:
            continue
        other = room_of(tuple(names[1:]))
        assert ROOMS.index(other) >= ROOMS.index(room), f"{room} imports {module}, which is above"


def test_the_sandbox_imports_nothing_of_the_package_but_errors() -> None:
    for path in sorted((SOURCE / "sandbox").rglob("*.py")):
        for module in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
            if module.startswith("knexa."):
                assert module.split(".")[1] in ("sandbox", "errors"), f"{path.name}: {module}"


@pytest.mark.parametrize(
    "path",
    [*sorted(SOURCE.glob("*.py")), *sorted((SOURCE / "cli").rglob("*.py"))],
    ids=lambda p: str(p.relative_to(SOURCE)),
)
def test_what_a_command_begins_with_imports_nothing_heavy_at_the_top(path: Path) -> None:
    if path.name == "statistics.py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in top:
        for module in imported_modules(node):
            assert module.split(".")[0] not in HEAVY


def test_source_is_ascii() -> None:
    for path in python_files():
        assert path.read_text(encoding="utf-8").isascii(), path
