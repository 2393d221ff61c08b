"""Mutated messages of peers: text packages, packages of numbers, profiles and feedback.

    python tests/exchange/message_fuzz.py <target> <number> <seed>

feeds them to their readers under a limit of memory, and prints one line of JSON: how many were
taken and refused, the longest processor time of one, and that of all. Anything but a clear refusal
or a valid object ends it with a traceback.
"""

import json
import math
import random
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from knexa.exchange.package import (
    KnowledgePackage,
    PackageError,
    PackageLimits,
    TextItem,
    decode,
    encode,
)
from knexa.exchange.tensors import pack, schema_of, unpack
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM, MAX_FEATURE
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.plans import Feedback
from knexa.matchmaking.rewards import LocalLoss

LIMITS = PackageLimits(max_bytes=64 * 1024, max_items=16, max_completion=2048, max_name=32)
HEADROOM = 64 * 1024**2
"""Bytes that all messages together may add to the process: no message is larger than 70 KiB."""

JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**17, 10**40),
    *(0.5, -0.0, 1e308, 5e-324, "", "x", "text", "F32", "I64", "BOOL", "../../etc/passwd"),
    *("\x00", "\u202e", "\U0001f600", "a" * 5000, [], {}, [[]], [0, 0], [-1, 4]),
    *([2**62, 4], [2**32, 2**32], [1e9], [[1]], [0, 2**63], {"a": {}}),
)
TOKENS = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1" * 5000, b"0.1" + b"0" * 400),
    *(b"[" * 3000, b'{"a":' * 1500, b"[" * 20, b"]" * 20, b"{", b"}", b",", b":", b'"', b"\\"),
    *(b"null", b"true", b'"round":3,', b"\\ud800", b"\\u0000", b"\x00", b"\n"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80"),  # byte order marks, a surrogate
)


def mutate_value(rng: random.Random, value: Any) -> Any:
    """Return a JSON value with one place changed."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        changed, key = dict(value), rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[rng.choice(["extra", "", "__class__", key + " "])] = rng.choice(JUNK)
            case _:
                changed[key] = mutate_value(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        changed_list, place = list(value), rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                del changed_list[place]
            case 1:
                changed_list += [value[place]] * rng.choice([1, 20])
            case 2:
                changed_list.reverse()
            case _:
                changed_list[place] = mutate_value(rng, value[place])
        return changed_list
    if isinstance(value, int | float) and rng.random() < 0.4:
        return rng.choice([-value, value + 1, value * 2, value / 3, value * 10**20])
    return rng.choice(JUNK)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with a slice changed, cut, repeated or replaced by a token."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    match rng.randrange(7):
        case 0:
            return data[:a]
        case 1:
            return data[:a] + data[b:]
        case 2:
            return data[:a] + rng.choice(TOKENS) + data[a:]
        case 3:
            return data[:a] + rng.choice(TOKENS) + data[a + 1 :]
        case 4:
            return data[:b] + data[a:b] * rng.choice([1, 30]) + data[b:]
        case 5:
            return data[:a] + rng.randbytes(min(b - a, 8)) + data[min(b, a + 8) :]
        case _:
            flipped = bytearray(data)
            for _ in range(rng.choice([1, 1, 4])):
                flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(flipped)


def as_json(value: Any) -> bytes:
    """Return JSON, without the checks of a package that is to be sent."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


# Text packages


def text_message(rng: random.Random) -> bytes:
    """Return a text package with a few mutations, in its fields or in its bytes."""
    number = rng.randrange(6)
    package = KnowledgePackage(
        sender="agent-1",
        round=rng.randrange(100),
        kind=rng.choice(["text", "pool"]),
        items=tuple(
            TextItem(
                task_id=f"t/{i}",
                completion=rng.choice(
                    ["    return x\n", "    # \u00e9\U0001f600\n", "", "y" * 300]
                ),
                confidence=rng.choice([None, -0.25, -3.0]),
            )
            for i in range(number)
        ),
    )
    data = encode(package, limits=LIMITS)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        if rng.random() < 0.5:
            try:
                data = as_json(mutate_value(rng, json.loads(data)))
            except (ValueError, RecursionError):
                continue
        elif data:
            data = mutate_bytes(rng, data)
    return data


def read_text(data: bytes) -> None:
    """Read a text package; what is taken must be one that could have been sent."""
    package = decode(data, limits=LIMITS)
    assert decode(encode(package, limits=LIMITS), limits=LIMITS) == package
    for item in package.items:
        assert item.confidence is None or math.isfinite(item.confidence)


# Packages of numbers

ARRAYS = {
    "a": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4),
    "b": np.arange(5, dtype=np.int32),
    "c": np.zeros((2, 0), dtype=np.float16),
}
SCHEMA = schema_of(ARRAYS)
NUMBERS = pack("logits", "agent-1", 3, ARRAYS)


def tensor_message(rng: random.Random) -> bytes:
    """Return a package of numbers, mutated in its header, its header's length or its numbers."""
    length = struct.unpack("<Q", NUMBERS[:8])[0]
    header, body = json.loads(NUMBERS[8 : 8 + length]), NUMBERS[8 + length :]
    choice = rng.random()
    if choice < 0.1:
        return NUMBERS
    if choice < 0.5:
        for _ in range(rng.choice([1, 1, 2])):
            header = mutate_value(rng, header)
    text = as_json(header) if choice < 0.5 else NUMBERS[8 : 8 + length]
    if rng.random() < 0.3:
        text = mutate_bytes(rng, text)
    if rng.random() < 0.3:
        values = np.array([np.nan, np.inf, -np.inf, 1e38, 0.5], np.float32)
        place = 4 * rng.randrange(12)
        body = body[:place] + values[rng.randrange(5)].tobytes() + body[place + 4 :]
    if rng.random() < 0.1 and body:
        body = mutate_bytes(rng, body)
    claimed = len(text) if rng.random() < 0.9 else rng.choice([0, 2**63, 2**64 - 1, len(text) + 1])
    return struct.pack("<Q", claimed) + text + body


def read_tensors(data: bytes) -> None:
    """Read a package of numbers; what is taken must be what was waited for."""
    arrays = unpack(data, "logits", SCHEMA)
    assert schema_of(arrays) == SCHEMA
    assert all(np.isfinite(array).all() for array in arrays.values())


# Profiles and feedback

NUM_AGENTS, NUM_FEATURES = 4, 32
WILD = (
    np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, -0.0, 10.0, -10.0, 10.0000001, 0.5, 1e300,
)  # fmt: skip
TYPES = ("float64", "float32", "float16", "int64", "uint8", "complex128", "bool", "U8", "O", "S4")


def a_cpm() -> CPM:
    """Return a CPM of four agents."""
    return CPM(
        matchmaker=LinUCB(),
        context=Interaction(),
        matching=Exact(),
        reward=LocalLoss(),
        protocol="akd",
        num_profile_features=NUM_FEATURES,
    )


def profile_message(rng: random.Random) -> Any:
    """Return profiles_NF with wild values, another type or another shape."""
    draw = np.random.default_rng(rng.getrandbits(32))
    profiles: Any = draw.random((NUM_AGENTS, NUM_FEATURES))
    for _ in range(rng.choice([0, 0, 1, 3])):
        profiles[rng.randrange(NUM_AGENTS), rng.randrange(NUM_FEATURES)] = rng.choice(WILD)
    match rng.randrange(8):
        case 0:
            shapes = [(4, 31), (4, 33), (2, 64), (128,), (1, 4, 32), (4, 32, 1), (32, 4)]
            shape = rng.choice(shapes)
            profiles = np.resize(profiles, shape)
        case 1:
            with np.errstate(all="ignore"):
                profiles = profiles.astype(rng.choice(TYPES))
        case 2:
            profiles = rng.choice([None, "x", 1.0, profiles.tolist(), b"\x00" * 1024, {}])
    return profiles


def read_profiles(cpm: CPM, profiles: Any, number: int) -> None:
    """Propose with these profiles; a plan that is made must rest on finite contexts."""
    plan = cpm.propose(number, profiles, np.random.default_rng(number))
    cpm.receive([Feedback(directive_id=d.id, reward=0.1 * k) for k, d in enumerate(plan)])
    assert np.abs(profiles).max() <= MAX_FEATURE
    assert sound(cpm)


def feedback_message(rng: random.Random, cpm: CPM) -> list[Feedback]:
    """Return a batch of feedback with wild rewards and ids that are unknown, repeated or no ids."""
    ids = [*cpm.pending * 4, "r0-0", "", "r1-0\n", "x" * 10_000]
    batch = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        id_: Any = rng.choice(ids) if rng.random() < 0.9 else rng.choice(JUNK)
        reward: Any = rng.gauss(0, 0.3)
        if rng.random() < 0.4:
            reward = rng.choice([*WILD, *JUNK, 1104.0, -1e4, 10**400, np.float32(0.5), 1j])
        batch.append(Feedback(directive_id=id_, reward=reward))
    return batch


def read_feedback(cpm: CPM, batch: list[Feedback]) -> None:
    """Teach the CPM; what it takes must leave its model and its statistics sound."""
    before = len(cpm.ledger)
    rewards = cpm.receive(batch)
    assert len(rewards) == len(batch) == len(cpm.ledger) - before
    assert all(math.isfinite(reward) for reward in rewards)
    assert sound(cpm)


def sound(cpm: CPM) -> bool:
    """Say whether the regression and the reward statistics are finite numbers."""
    assert isinstance(cpm.matchmaker, LinUCB)
    model, statistics = cpm.matchmaker.model, cpm.state_dict()["reward"]
    return bool(
        np.isfinite(model.A_dd).all()
        and np.isfinite(model.theta_d).all()
        and all(math.isfinite(value) for value in statistics.values())
    )


class Conversation:
    """One CPM that is told mutated profiles or feedback, renewed every 200 messages."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.number = rng, 0

    def _renew(self) -> CPM:
        self.number += 1
        if self.number % 200 == 1:
            self.cpm = a_cpm()
        return self.cpm

    def tell_profiles(self) -> None:
        """Send profiles."""
        profiles = profile_message(self.rng)
        read_profiles(self._renew(), profiles, self.number)

    def tell_feedback(self) -> None:
        """Send feedback on some of the directives that wait for it."""
        cpm = self._renew()
        if len(cpm.pending) < 2:
            draw = np.random.default_rng(self.number)
            profiles_NF = draw.random((NUM_AGENTS, NUM_FEATURES))
            cpm.propose(self.number, profiles_NF, draw)
        read_feedback(cpm, feedback_message(self.rng, cpm))


def targets(rng: random.Random) -> dict[str, Callable[[], None]]:
    """Return what feeds one message to its reader, by name."""
    conversation = Conversation(rng)
    return {
        "text": lambda: read_text(text_message(rng)),
        "tensors": lambda: read_tensors(tensor_message(rng)),
        "profiles": conversation.tell_profiles,
        "feedback": conversation.tell_feedback,
    }


def is_clear(error: ValueError) -> bool:
    """Say whether a refusal is one short line."""
    return 0 < len(str(error)) <= 300 and str(error).isprintable()


def refusal(read: Callable[[], None]) -> ValueError | None:
    """Return how a reader refuses, None where it takes what it reads; let crashes through."""
    try:
        read()
    except ValueError as error:
        return error
    return None


def fuzz(target: str, number: int, seed: int) -> dict[str, float]:
    """Feed ``number`` messages to a reader."""
    rng = random.Random(f"{target} {seed}")
    feed, taken, longest = targets(rng)[target], 0, 0.0
    for index in range(number):
        begin = time.process_time()
        error = refusal(feed)
        longest = max(longest, time.process_time() - begin)
        taken += error is None
        if error is not None:
            assert is_clear(error), f"message {index}: {error!r:.500}"
            if target in ("text", "tensors"):
                assert isinstance(error, PackageError), f"message {index}: {error!r:.500}"
    cpu = time.process_time()
    return {"taken": taken, "refused": number - taken, "longest": longest, "cpu": cpu}


if __name__ == "__main__":
    fuzz(sys.argv[1], 300, -1)  # imports and caches are not a message's memory
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, used + HEADROOM))
    print(json.dumps(fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
