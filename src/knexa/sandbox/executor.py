"""The interface of the sandbox: takes (problem, completion) pairs and returns outcomes.

Verdicts depend on CPU time, not on machine load: a program that reached the wall limit while it
waited for a core is run once more alone. A failure of the sandbox itself is retried once and then
reported as ``infrastructure_error``, never as a wrong answer.
"""

import hashlib
import json
import logging
import os
import select
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any, Self

from knexa.errors import UserError
from knexa.sandbox import protection

from . import codec
from .outcome import Execution, Limits, Outcome, Task, program
from .verifier import Job, Reply, Verifier, lost

__all__ = ["Execution", "Executor", "Limits", "Outcome", "program"]

_log = logging.getLogger(__name__)
_CPU_FACTOR = 4.0  # a program may take so many times what the canonical solution takes
_PROGRAMS_PER_VERIFIER = 16  # open programs that justify the start of another verifier


class Executor:
    """Runs programs; a context manager that starts its processes when first used.

    In a forked worker it starts verifiers of its own. Results are cached by the hash of (problem,
    program, limits), so equal programs run once. Programs run while the caller does other work;
    waiting ones are started whenever the caller calls a method.
    """

    def __init__(
        self, *, limits: Limits | None = None, num_workers: int = 1, is_strict: bool = False
    ) -> None:
        """Run up to ``num_workers`` programs at once; outcomes do not depend on it.

        A strict executor raises a UserError instead of an outcome if a layer is missing.
        """
        if num_workers < 1:
            raise ValueError(f"num_workers={num_workers} must be at least 1")
        self.limits = limits or Limits()
        self.num_workers = num_workers
        self.is_strict = is_strict
        self._verifiers: list[Verifier] = []
        self._cache: dict[bytes, Execution] = {}
        self._jobs: dict[bytes, Job] = {}  # without an outcome yet
        self._waiting: deque[bytes] = deque()
        self._replies: dict[bytes, Reply] = {}  # undecided: to be retried
        self._layers: tuple[str, ...] | None = None
        self._refused: dict[str, str] = {}
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings alone: a worker on another machine starts its own processes."""
        own = partial(Executor, limits=self.limits, num_workers=self.num_workers)
        return partial(own, is_strict=self.is_strict), ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()

    def close(self) -> None:
        """End the processes; the executor may be used again."""
        self._forget_if_forked()
        while self._verifiers:
            self._verifiers.pop().close()
        self._forget_programs()

    @property
    def layers(self) -> tuple[str, ...]:
        """The kernel layers in force around a program, by name; starts a verifier if none runs.

        Raises:
            UserError: A layer is missing, and the executor is strict.
        """
        if self._layers is None:
            self._forget_if_forked()
            self._wait_for(list(self._jobs))  # a verifier answers in order
            verifier = self._verifier(0)
            codec.send(verifier.channel, {})
            self._record_layers(codec.receive(verifier.channel))
        return self._layers or ()

    @property
    def refused(self) -> dict[str, str]:
        """By name of a missing layer, the kernel's reason."""
        _ = self.layers
        return dict(self._refused)

    def begin(self, problem: Task, completion: str) -> None:
        """Start a program in the background; a later ``run`` returns its outcome.

        Raises:
            UserError: A layer is missing, and the executor is strict.
        """
        self._forget_if_forked()
        self._add(problem, completion)
        self._advance(timeout_s=0.0)

    def advance(self) -> None:
        """Collect outcomes and start waiting programs; returns at once.

        Raises:
            UserError: A layer is missing, and the executor is strict.
        """
        self._forget_if_forked()
        self._advance(timeout_s=0.0)

    def run(self, candidates: Sequence[tuple[Task, str]]) -> list[Execution]:
        """Return one execution for each (problem, completion), in order.

        Raises:
            UserError: A layer is missing, and the executor is strict.
        """
        self._forget_if_forked()
        keys = [self._add(problem, completion) for problem, completion in candidates]
        self._advance(timeout_s=0.0)
        self._wait_for(keys)
        fresh: dict[bytes, Execution] = {}
        for key in dict.fromkeys(keys):
            if key in self._replies:
                self._retry_alone(key)
            if key in self._replies:  # twice undecided
                fresh[key] = _execution(self._replies.pop(key))
                del self._jobs[key]
                if fresh[key].outcome is not Outcome.INFRASTRUCTURE_ERROR:
                    self._cache[key] = fresh[key]
        return [fresh.get(key) or self._cache[key] for key in keys]

    def _job(self, problem: Task, completion: str) -> Job:
        limits = asdict(self.limits)
        cpu_s = max(self.limits.cpu_s, _CPU_FACTOR * problem.canonical_cpu_s)
        limits |= {"cpu_s": cpu_s, "wall_s": self.limits.wall_s * cpu_s / self.limits.cpu_s}
        return {
            "program": program(problem, completion),
            "setup": problem.setup_code,
            "prompt": problem.prompt,
            "test": problem.test_code,
            "entry": problem.entry_point,
            "limits": limits,
        }

    def _add(self, problem: Task, completion: str) -> bytes:
        """Queue a program, unless it has run or is queued; return its key."""
        job = self._job(problem, completion)
        key = hashlib.sha256(json.dumps(job).encode()).digest()
        if key not in self._cache and key not in self._jobs:
            self._jobs[key] = job
            self._waiting.append(key)
        return key

    def _advance(self, timeout_s: float) -> None:
        """Collect verifiers' replies for up to ``timeout_s``, then give them waiting programs."""
        busy = [verifier for verifier in self._verifiers if verifier.keys]
        poll = select.poll()
        for verifier in busy:
            poll.register(verifier.channel, select.POLLIN)
        ready = {number for number, _ in poll.poll(timeout_s * 1000)} if busy else set()
        for verifier in busy:
            is_answered = verifier.channel.fileno() in ready
            if is_answered or verifier.is_overdue:
                self._take(verifier, is_answered=is_answered)
        for slot in range(self.num_workers):
            self._feed(slot)
        self._queue_ahead()

    def _take(self, verifier: Verifier, *, is_answered: bool) -> None:
        try:
            reply = verifier.reply(is_answered=is_answered)
            self._record_layers(reply)
        except BaseException:  # half a message may have been read, or a layer is missing
            self._abandon(verifier)
            raise
        key = verifier.end_job()
        if verifier.process.returncode is not None:
            self._put_back(verifier.keys)
        if _undecided(reply):
            self._replies[key] = reply
        else:
            self._cache[key] = _execution(reply)
            del self._jobs[key]

    def _abandon(self, verifier: Verifier) -> None:
        verifier.kill()
        self._put_back(verifier.keys)

    def _put_back(self, keys: deque[bytes]) -> None:
        """Put programs back at the head of the queue."""
        while keys:
            if (key := keys.pop()) not in self._waiting:
                self._waiting.appendleft(key)

    def _feed(self, slot: int) -> None:
        """Give waiting programs to the slot's verifier if it is idle or worth starting."""
        if slot == len(self._verifiers):
            if len(self._jobs) - len(self._replies) <= slot * _PROGRAMS_PER_VERIFIER:
                return
        elif slot > len(self._verifiers):
            return
        while self._waiting and (slot == len(self._verifiers) or not self._verifiers[slot].keys):
            self._give(self._verifier(slot))

    def _queue_ahead(self) -> None:
        """Queue one program at busy verifiers, while enough are waiting for the idle ones."""
        for verifier in self._verifiers:
            if len(self._waiting) <= self.num_workers:
                return
            if verifier.can_queue(self._jobs[self._waiting[0]]):
                self._give(verifier)

    def _give(self, verifier: Verifier) -> None:
        """Give a verifier the first waiting program; it stays queued if a busy one is gone."""
        key = self._waiting[0]
        try:
            verifier.give(key, self._jobs[key])
        except OSError as error:
            if verifier.keys:  # its loss is found when its current job is read
                return
            verifier.kill()
            self._replies[key] = lost(f"the verifier is gone: {error}")
        except BaseException:  # half a message may have been sent
            self._abandon(verifier)
            raise
        self._waiting.popleft()

    def _wait_for(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            while key not in self._cache and key not in self._replies:
                self._advance(timeout_s=0.25)

    def _retry_alone(self, key: bytes) -> None:
        """Run a program again while no other program runs."""
        self._wait_for(list(self._jobs))
        del self._replies[key]
        self._waiting.append(key)
        self._wait_for([key])

    def _verifier(self, slot: int) -> Verifier:
        """Return the slot's verifier, started if it is not running."""
        while len(self._verifiers) <= slot:
            self._verifiers.append(Verifier())
        if self._verifiers[slot].process.poll() is not None:
            self._verifiers[slot].kill()
            self._verifiers[slot] = Verifier()
        return self._verifiers[slot]

    def _record_layers(self, reply: Reply) -> None:
        """Warn once of missing layers; a strict executor raises instead."""
        if not reply.get("layers") or (self._layers is not None and not self.is_strict):
            return
        is_first = self._layers is None
        self._layers = tuple(reply["layers"])
        self._refused = dict(reply.get("refused") or {})
        lacking = protection.required(protection.missing(self._layers))
        if not lacking:
            return
        text = protection.complaint(lacking, self._refused)
        if self.is_strict:
            raise UserError(f"evaluation.sandbox=strict: this machine runs programs {text}")
        if is_first and not {"network-namespace", "seccomp"} & set(self._layers):
            _log.warning(
                "GENERATED PROGRAMS CAN REACH THE NETWORK: this kernel grants neither a network "
                "namespace nor seccomp; run untrusted models in a container without network"
            )
        if is_first:
            _log.warning("GENERATED PROGRAMS RUN %s", text)

    def _forget_if_forked(self) -> None:
        if self._pid == os.getpid():
            return
        for verifier in self._verifiers:
            verifier.channel.close()
            verifier.process.returncode = 0  # the parent's child: not to be waited for here
        self._verifiers = []
        self._forget_programs()
        self._pid = os.getpid()

    def _forget_programs(self) -> None:
        self._jobs.clear()
        self._waiting.clear()
        self._replies.clear()


def _undecided(reply: Reply) -> bool:
    return bool(reply.get("again")) or reply.get("outcome") == Outcome.INFRASTRUCTURE_ERROR


def _execution(reply: Reply) -> Execution:
    used = {name: float(reply.get(name, 0.0)) for name in ("cpu_s", "wall_s")}
    return Execution(Outcome(reply["outcome"]), str(reply.get("detail", "")), **used)
