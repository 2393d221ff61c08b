"""Experiments on learned matchmaking in peer-to-peer federations of language models."""

# `python -m knexa.export` looks for a module of the package: those that only call a command live in
# a folder of their own, since loose modules in this one would look like a part of the library.
__path__.append(f"{__path__[0]}/cli/modules")
