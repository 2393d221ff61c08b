"""What callers use: run (problem, completion) pairs and get outcomes.

The verdict depends on CPU time, not on load: a program that only reached the wall limit while it
waited for a core runs once more alone, and a failure of the sandbox itself is retried once and then
reported as ``infrastructure_error``, never as a wrong answer.
"""

import hashlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from knexa.data.problem import Problem
from knexa.errors import UserError
from knexa.evaluation import protection
from knexa.evaluation.known import cpu_limit

from . import codec, scratch, session
from .outcome import Execution, Limits, Outcome, program

__all__ = ["Execution", "Executor", "Limits", "Outcome", "program"]

_log = logging.getLogger(__name__)
_GRACE_S = 6.0
_WORTH_A_VERIFIER = 16  # programs: starting its processes takes as long as running some
_START_S = 20.0


class _Verifier:
    """One trusted verifier process and the job it works on."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._folder = tempfile.mkdtemp(prefix="knexa-")
        Path(self._folder).chmod(0o711)
        self.process: subprocess.Popen[bytes] = session.start("trusted", theirs, self._folder)
        theirs.close()
        ours.settimeout(60)
        self.channel = ours
        self.is_warm = False
        self.index = -1
        self.deadline = 0.0

    def kill(self) -> None:
        """End it at once; its sandbox server ends with it."""
        self.channel.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with suppress(OSError):
            scratch.remove(self._folder)

    def close(self) -> None:
        """Let it end and remove its scratch directory; kill it if it does not."""
        self.channel.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()


class Executor:
    """Runs programs; a context manager that starts its processes when first used.

    An executor that finds itself in a forked worker starts its own verifiers there. Results are
    kept by the hash of (problem, program, limits), so the same program is run once.
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
        self._verifiers: list[_Verifier] = []
        self._cache: dict[bytes, Execution] = {}
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

    @property
    def layers(self) -> tuple[str, ...]:
        """The kernel layers in force around a program, by name; starts a verifier if none runs.

        Raises:
            UserError: A layer is missing, and the executor is strict.
        """
        if self._layers is None:
            self._forget_if_forked()
            verifier = self._verifier(0)
            codec.send(verifier.channel, {})
            self._note_layers(codec.receive(verifier.channel))
        return self._layers or ()

    @property
    def refused(self) -> dict[str, str]:
        """Why the layers that are missing did not take hold, by name, as the kernel put it."""
        _ = self.layers
        return dict(self._refused)

    def run(self, candidates: Sequence[tuple[Problem, str]]) -> list[Execution]:
        """Return one execution for each (problem, completion), in order.

        Raises:
            UserError: A layer is missing, and the executor is strict.
        """
        self._forget_if_forked()
        keys: list[bytes] = []
        jobs: dict[bytes, dict[str, Any]] = {}
        for problem, completion in candidates:
            job = self._job(problem, completion)
            key = hashlib.sha256(json.dumps(job).encode()).digest()
            keys.append(key)
            if key not in self._cache:
                jobs[key] = job
        names, todo = list(jobs), list(jobs.values())
        replies = self._map(todo)
        again = [index for index, reply in enumerate(replies) if _undecided(reply)]
        for index in again:  # alone: nothing else of ours runs beside it
            replies[index] = self._map([todo[index]])[0]
        fresh = {key: _execution(reply) for key, reply in zip(names, replies, strict=True)}
        for key, execution in fresh.items():
            if execution.outcome is not Outcome.INFRASTRUCTURE_ERROR:
                self._cache[key] = execution
        return [self._cache.get(key) or fresh[key] for key in keys]

    def _job(self, problem: Problem, completion: str) -> dict[str, Any]:
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

    def _map(self, jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the verifiers' replies; a verifier that is lost gives its job an error reply."""
        replies: list[dict[str, Any]] = [{} for _ in jobs]
        waiting = deque(range(len(jobs)))
        with selectors.DefaultSelector() as selector:
            for slot in range(min(self.num_workers, -(-len(jobs) // _WORTH_A_VERIFIER))):
                self._hand_out(slot, jobs, waiting, replies, selector)
            while selector.get_map():
                ready = {key.data for key, _ in selector.select(timeout=0.25)}
                now = time.monotonic()
                for slot in [key.data for key in list(selector.get_map().values())]:
                    verifier = self._verifiers[slot]
                    if slot not in ready and now < verifier.deadline:
                        continue
                    selector.unregister(verifier.channel)
                    replies[verifier.index] = self._collect(verifier, slot in ready)
                    self._hand_out(slot, jobs, waiting, replies, selector)
        return replies

    def _hand_out(
        self,
        slot: int,
        jobs: list[dict[str, Any]],
        waiting: "deque[int]",
        replies: list[dict[str, Any]],
        selector: selectors.BaseSelector,
    ) -> None:
        while waiting:
            index = waiting.popleft()
            verifier = self._verifier(slot)
            try:
                codec.send(verifier.channel, jobs[index])
            except OSError as error:
                verifier.kill()
                replies[index] = _lost(f"the verifier is gone: {error}")
                continue
            verifier.index = index
            limits = jobs[index]["limits"]
            # Checking an answer takes CPU time of its own, which a busy machine grants slowly.
            allowance = limits["wall_s"] + limits["cpu_s"] + _GRACE_S
            allowance += 0 if verifier.is_warm else _START_S
            verifier.deadline = time.monotonic() + allowance
            selector.register(verifier.channel, selectors.EVENT_READ, slot)
            return

    def _collect(self, verifier: _Verifier, answered: bool) -> dict[str, Any]:
        if not answered:
            verifier.kill()
            return {"outcome": "timeout", "detail": "the check did not end", "again": True}
        try:
            reply = codec.receive(verifier.channel)
        except (EOFError, OSError, codec.CodecError) as error:
            verifier.kill()
            if verifier.process.returncode == -signal.SIGVTALRM:  # its own limit, not load
                return {"outcome": "timeout", "detail": "checking the answer took too long"}
            return _lost(f"the verifier is gone: {error!r}")
        verifier.is_warm = bool(reply.get("warm"))
        self._note_layers(reply)
        return dict(reply)

    def _verifier(self, slot: int) -> _Verifier:
        """Return the slot's verifier, started if it is not running."""
        while len(self._verifiers) <= slot:
            self._verifiers.append(_Verifier())
        if self._verifiers[slot].process.poll() is not None:
            self._verifiers[slot].kill()
            self._verifiers[slot] = _Verifier()
        return self._verifiers[slot]

    def _note_layers(self, reply: dict[str, Any]) -> None:
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
        self._pid = os.getpid()


def _undecided(reply: dict[str, Any]) -> bool:
    return bool(reply.get("again")) or reply.get("outcome") == Outcome.INFRASTRUCTURE_ERROR


def _lost(detail: str) -> dict[str, Any]:
    return {"outcome": Outcome.INFRASTRUCTURE_ERROR, "detail": detail}


def _execution(reply: dict[str, Any]) -> Execution:
    used = {name: float(reply.get(name, 0.0)) for name in ("cpu_s", "wall_s")}
    return Execution(Outcome(reply["outcome"]), str(reply.get("detail", "")), **used)


def _executor(limits: Limits, num_workers: int, is_strict: bool) -> Executor:
    return Executor(limits=limits, num_workers=num_workers, is_strict=is_strict)
