"""The process that forks programs.

It learns nothing of a program, for what it knew the next one would find in its memory.
"""

import json
import os
import random
import socket
from typing import Any, NoReturn

from . import kernel, layers, seccomp
from .program_side import ProgramSide

MAX_REQUEST = 4096
"""Bytes of a message between verifier, watcher and zygote."""
_NUM_THREADS = 128
_DEFAULT_LIMITS = {"cpu_s": 3.0, "memory_mb": 512, "file_mb": 1, "processes": 0}


class Zygote:
    """Forks programs. The same happens in its memory whatever they are and do."""

    def __init__(self, folder: str, mapped: int, *, has_own_user: bool) -> None:
        os.mkdir(folder)  # noqa: PTH102
        self.folder = folder
        self._program = ProgramSide()
        self._mapped = mapped
        self._has_own_user = has_own_user
        self._filters = {allowed: seccomp.Filter(children=allowed) for allowed in (False, True)}
        self._applied: frozenset[str] = frozenset()

    def probe(self) -> list[str]:
        """Return the layers that a fork of this process can apply to itself."""
        names = []
        for name, action in (
            ("seccomp", self._filters[False].attach),
            ("resource-limits", lambda: self._limit(_DEFAULT_LIMITS)),
        ):
            number = kernel.trial(action)
            if number:
                kernel.refused[name] = f"setting it: {os.strerror(number)}"
            else:
                names.append(name)
        self._applied = frozenset(names)
        return names

    def _limit(self, limits: dict[str, Any]) -> None:
        layers.limit_resources(
            cpu_s=limits["cpu_s"],
            address_space=self._mapped + (limits["memory_mb"] << 20),
            file_mb=limits["file_mb"],
            num_tasks=_NUM_THREADS + limits["processes"] if self._has_own_user else None,
        )

    def serve(self, requests: socket.socket, link: socket.socket) -> NoReturn:
        """Fork for each request, which the fork reads; reap it when the watcher says so."""
        try:
            while requests.recv(1, socket.MSG_PEEK):
                pid = os.fork()
                if pid == 0:
                    data, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST, 1)
                    link.send(b"%d" % os.getpid())
                    requests.close()
                    link.close()
                    self.run(data, descriptors[0])
                if not link.recv(1):
                    break
                link.send(b"%d" % os.waitpid(pid, 0)[1])
        finally:
            os._exit(0)

    def run(self, request: bytes, descriptor: int) -> NoReturn:
        """Run a program in this process, with its channel; never returns."""
        try:
            limits, channel = json.loads(request), socket.socket(fileno=descriptor)
            os.setsid()
            os.chdir(self.folder)
            # Opened anew: flags of a shared open file would persist to the next program.
            null = os.open("/dev/null", os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            os.close(null)
            # A layer that passed the probe and fails now ends the program.
            if "resource-limits" in self._applied:
                self._limit(limits)
            if "seccomp" in self._applied:
                self._filters[limits["processes"] > 0].attach()
            random.seed(0)
            self._program.open(channel, limits["output_kb"] << 10)
            while True:
                self._program.serve_one()
        finally:
            os._exit(70)
