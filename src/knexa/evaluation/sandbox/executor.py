"""What callers use: run (problem, completion) pairs and get outcomes.

The verdict depends on CPU time, not on load: a program that only reached the wall limit while it
waited for a core runs once more alone, and a failure of the sandbox itself is retried once and then
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
from types import TracebackType
from typing import Any, Self

from knexa.data.problem import Problem
from knexa.errors import UserError
from knexa.evaluation import protection
from knexa.evaluation.known import cpu_limit

from . import codec
from .outcome import Execution, Limits, Outcome, program
from .verifier import Job, Reply, Verifier, lost

__all__ = ["Execution", "Executor", "Limits", "Outcome", "program"]

_log = logging.getLogger(__name__)
_WORTH_A_VERIFIER = 16  # programs: starting its processes takes as long as running some


class Executor:
    """Runs programs; a context manager that starts its processes when first used.

    An executor that finds itself in a forked worker starts its own verifiers there. Results are
    kept by the hash of (problem, program, limits), so the same program is run once. Its processes
    work while the caller does: what was begun is handed out whenever the caller comes by.
    """

    def __init__(
        self, *, limits: Limits | None = None, num_workers: int = 1, is_strict: bool = False
    ) -> None:
        """Up to ``num_workers`` programs run at once; outcomes do not depend on it.

        Strict, it gives no outcome and raises a UserError where a layer is missing.
        """
        if num_workers < 1:
            raise ValueError(f"num_workers={num_workers} must be at least 1")
        self.limits = limits or Limits()
        self.num_workers = num_workers
        self.is_strict = is_strict
        self._verifiers: list[Verifier] = []
        self._cache: dict[bytes, Execution] = {}
        self._jobs: dict[bytes, Job] = {}  # begun, without an outcome
        self._waiting: deque[bytes] = deque()
        self._replies: dict[bytes, Reply] = {}  # that decide nothing
        self._layers: tuple[str, ...] | None = None
        self._refused: dict[str, str] = {}
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what a worker on another machine makes its own executor of."""
        return _executor, (self.limits, self.num_workers, self.is_strict)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            self._wait_for(list(self._jobs))  # a verifier answers in turn
            verifier = self._verifier(0)
            codec.send(verifier.channel, {})
            self._note_layers(codec.receive(verifier.channel))
        return self._layers or ()

    @property
    def refused(self) -> dict[str, str]:
        """Why the layers that are missing did not take hold, by name, as the kernel put it."""
        _ = self.layers
        return dict(self._refused)

    def begin(self, problem: Problem, completion: str) -> None:
        """Have a program run beside what the caller does next; ``run`` finds what came of it.

        Raises:
            UserError: A layer is missing, and the executor is strict.
        """
        self._forget_if_forked()
        self._add(problem, completion)
        self._advance(timeout_s=0.0)

    def advance(self) -> None:
        """Keep the programs that were begun going; returns at once.

        Raises:
            UserError: A layer is missing, and the executor is strict.
        """
        self._forget_if_forked()
        self._advance(timeout_s=0.0)

    def run(self, candidates: Sequence[tuple[Problem, str]]) -> list[Execution]:
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
                self._once_more(key)
            if key in self._replies:  # twice undecided
                fresh[key] = _execution(self._replies.pop(key))
                del self._jobs[key]
                if fresh[key].outcome is not Outcome.INFRASTRUCTURE_ERROR:
                    self._cache[key] = fresh[key]
        return [fresh.get(key) or self._cache[key] for key in keys]

    def _job(self, problem: Problem, completion: str) -> Job:
        limits = asdict(self.limits)
        cpu_s = cpu_limit(problem.task_id, self.limits.cpu_s)
        limits |= {"cpu_s": cpu_s, "wall_s": self.limits.wall_s * cpu_s / self.limits.cpu_s}
        return {
            "program": program(problem, completion),
            "setup": problem.setup_code,
            "prompt": problem.prompt,
            "test": problem.test_code,
            "entry": problem.entry_point,
            "limits": limits,
        }

    def _add(self, problem: Problem, completion: str) -> bytes:
        """Note a program that is to run, unless it ran or is on its way; return its key."""
        job = self._job(problem, completion)
        key = hashlib.sha256(json.dumps(job).encode()).digest()
        if key not in self._cache and key not in self._jobs:
            self._jobs[key] = job
            self._waiting.append(key)
        return key

    def _advance(self, timeout_s: float) -> None:
        """Take what verifiers answer within the time, then give work to those that have room."""
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
            self._hand_out(slot)
        self._hand_out_ahead()

    def _take(self, verifier: Verifier, *, is_answered: bool) -> None:
        try:
            reply = verifier.reply(is_answered=is_answered)
            self._note_layers(reply)
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
        """Let programs wait again, first of all."""
        while keys:
            if (key := keys.pop()) not in self._waiting:
                self._waiting.appendleft(key)

    def _hand_out(self, slot: int) -> None:
        """Give the slot's verifier what waits, if it is idle or worth starting."""
        if slot == len(self._verifiers):
            if len(self._jobs) - len(self._replies) <= slot * _WORTH_A_VERIFIER:
                return
        elif slot > len(self._verifiers):
            return
        while self._waiting and (slot == len(self._verifiers) or not self._verifiers[slot].keys):
            self._give(self._verifier(slot))

    def _hand_out_ahead(self) -> None:
        """Give busy verifiers the next one too, as long as there is more for those that are not."""
        for verifier in self._verifiers:
            if len(self._waiting) <= self.num_workers:
                return
            if verifier.takes_ahead(self._jobs[self._waiting[0]]):
                self._give(verifier)

    def _give(self, verifier: Verifier) -> None:
        """Give a verifier what waits first; what a busy one cannot take goes on waiting."""
        key = self._waiting[0]
        try:
            verifier.give(key, self._jobs[key])
        except OSError as error:
            if verifier.keys:  # its death is told by what it works on
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

    def _once_more(self, key: bytes) -> None:
        """Run a program again, alone: nothing else of ours runs beside it."""
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

    def _note_layers(self, reply: Reply) -> None:
        """Say once what is missing; strict, refuse whatever came from a server that lacks it."""
        if not reply.get("layers") or (self._layers is not None and not self.is_strict):
            return
        is_first = self._layers is None
        self._layers = tuple(reply["layers"])
        self._refused = dict(reply.get("refused") or {})
        lacking = protection.missing(self._layers)
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
            verifier.process.returncode = 0  # the parent's child: not ours to wait for
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


def _executor(limits: Limits, num_workers: int, is_strict: bool) -> Executor:
    return Executor(limits=limits, num_workers=num_workers, is_strict=is_strict)
