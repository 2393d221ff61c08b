"""Experiments on learned matchmaking in peer-to-peer federations of language models.

    import knexa
    results = knexa.run(["matchmaker=linucb", "seed=1"])
    results.rounds().groupby("round")["pass@1_greedy"].mean()

docs/api.md describes the names in ``__all__``. What they need is imported when one is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knexa.api.experiments import load, run
    from knexa.api.results import Results
    from knexa.errors import UserError

    __version__: str

__all__ = ["Results", "UserError", "__version__", "load", "run"]

_MODULES = {
    "Results": "knexa.api.results",
    "UserError": "knexa.errors",
    "load": "knexa.api.experiments",
    "run": "knexa.api.experiments",
}

# `python -m knexa.export` looks for a module of the package: those that only call a command live in
# a folder of their own, since loose modules in this one would look like a part of the library.
__path__.append(f"{__path__[0]}/cli/modules")


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("knexa")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
