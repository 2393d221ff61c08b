"""What runs are identified by, beside the values of their configs."""

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

RECIPE = 8
"""Bumped with every change that moves a golden result, or what identifies a run, so that an old run
is never mistaken for one that today's code would make. 8: a teacher
decodes only what it is asked, and what peers brought is kept where somebody else leaves."""


@dataclass(frozen=True)
class AddedLater:
    """Marks, in its annotation, a parameter that came when runs had been made without it.

    What identifies a run leaves the parameter out where it has the value ``unchanged``, with which
    a run is what it was before: old runs keep their identity. A config group that came later is
    marked likewise; its value is what identifies its component.
    """

    unchanged: object


NAME = "_name_"
"""Stands for ``_target_`` where a component is identified."""


class Secret:
    """Marks a setting, in its annotation, that only the run itself may know.

    config.yaml, all that is made from it, and the run's identity hold ``secret_digest`` instead.
    """


def secret_digest(value: Any) -> str:
    """Return what stands for a secret: the same on every machine, and slow to guess from.

    Scrypt, at 16 MiB and some 50 ms a guess. Its salt is fixed, because the digest is part of what
    identifies a run; a secret that is one of a few likely words can therefore be found by trying
    them.
    """
    return _scrypt(json.dumps(value, sort_keys=True))


@functools.lru_cache(maxsize=1024)
def _scrypt(text: str) -> str:
    digest = hashlib.scrypt(
        text.encode("utf-8", "surrogatepass"), salt=b"knexa secret", n=2**14, r=8, p=1, dklen=16
    )
    return f"scrypt:{digest.hex()}"
