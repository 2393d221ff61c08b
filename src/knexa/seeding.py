"""Where every random draw of a run comes from: a seed derived from what the draw is for.

Seeds are derived, never advanced: the seed of (run seed, purpose, round, agent) is the same
whatever ran before it, in whichever process, so a run does not depend on the number of workers and
a resumed run draws what the uninterrupted one would have drawn.
"""

import hashlib

import numpy as np


def derive_seed(run_seed: int, purpose: str, *keys: int | str) -> int:
    """Return a 63-bit seed for one purpose, e.g. ``derive_seed(42, "teach", round, agent)``.

    Distinct (run_seed, purpose, keys) give independent seeds (SHA-256 of their text).
    """
    text = "\x1f".join([str(run_seed), purpose, *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_rng(run_seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """Return a NumPy generator on ``derive_seed(run_seed, purpose, *keys)``."""
    return np.random.default_rng(derive_seed(run_seed, purpose, *keys))
