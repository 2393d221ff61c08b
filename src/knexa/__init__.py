"""Experiments on learned matchmaking in peer-to-peer federations of language models."""

# `python -m knexa.export` looks for a module of the package: those that only call a command live in
# a folder of their own, since loose modules in this one would look like a part of the library.
__path__.append(f"{__path__[0]}/cli/modules")


def run_command(name: str) -> None:
    """Run ``knexa NAME`` with this process's arguments, and exit as it does."""
    from knexa.cli.commands import main

    main(name)
