"""A memory cgroup around a sandbox server, where the machine grants one (cgroups v1 and v2).

It bounds what the address space of a process does not: the scratch folder, the kernel's own memory
on behalf of programs, and all processes of a program together. Made by the server's outer process,
which stays outside and removes it: its folder names the machine's groups and processes, and what
the inner process knows a program finds in its memory. The inner one has a descriptor of
the limit alone.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Self

from . import kernel

NAME = "memory-cgroup"
_PREFIX = "knexa-"


class MemoryGroup:
    """A cgroup of its own; ``path`` is its folder, ``limit`` a descriptor of its bound."""

    def __init__(self, parent: str, limit_name: str) -> None:
        """Make a group below ``parent``, a folder of the cgroup file system.

        Raises:
            OSError: The machine does not grant it.
        """
        self._name = f"{_PREFIX}{os.getpid()}"
        self.path = f"{parent}/{self._name}"
        self._parent = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: list[int] = [self._parent]
        try:
            os.mkdir(self._name, dir_fd=self._parent)
            self._members = self._write_to("cgroup.procs")
            self.limit = self._write_to(limit_name)
            # Memory that is swapped out would not count.
            name, value = {"memory.max": ("memory.swap.max", b"0")}.get(
                limit_name, ("memory.swappiness", b"0")
            )
            with contextlib.suppress(OSError):  # no swap at all
                os.write(self._write_to(name), value)
        except OSError:
            self.remove()
            raise

    @classmethod
    def make(cls) -> Self | None:
        """Return a new group; None, with the reason noted, if the machine grants none."""
        why = "no cgroup controls memory here"
        for parent, limit_name in _parents():
            _sweep(parent)
            try:
                return cls(parent, limit_name)
            except OSError as error:
                why = f"a cgroup below {parent}: {error.strerror}"
        kernel.refused[NAME] = why
        return None

    def _write_to(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CLOEXEC
        descriptor = os.open(f"{self._name}/{name}", flags, dir_fd=self._parent)
        self._open.append(descriptor)
        return descriptor

    def add(self, pid: int) -> bool:
        """Put a process into the group; return whether that worked."""
        try:
            os.write(self._members, b"%d" % pid)
        except OSError as error:
            kernel.refused[NAME] = f"joining a cgroup: {error.strerror}"
            return False
        return True

    def remove(self) -> None:
        """Remove the group, which must have no members any more."""
        with contextlib.suppress(OSError):
            os.rmdir(self._name, dir_fd=self._parent)
        for descriptor in self._open:
            os.close(descriptor)


def _parents() -> Iterator[tuple[str, str]]:
    """Yield folders that a group may be made in, each with the name of its limit.

    With cgroups v2 a group with processes cannot pass control of memory on, so that the folder
    beside this process's own comes second.
    """
    with contextlib.suppress(OSError):
        own = dict(_own_groups())
        for folder, kind, options in _mounts():
            if kind == "cgroup" and "memory" in options:
                yield f"{folder}{own.get('memory', '/')}".rstrip("/"), "memory.limit_in_bytes"
            elif kind == "cgroup2":
                path = f"{folder}{own.get('', '/')}".rstrip("/")
                for parent in (path, os.path.dirname(path)):  # noqa: PTH120
                    if parent.startswith(folder) and "memory" in _passed_on(parent):
                        yield parent, "memory.max"


def _own_groups() -> Iterator[tuple[str, str]]:
    """Yield (controller, path) of this process's groups; the controller of v2 is ''."""
    with open("/proc/self/cgroup") as file:  # noqa: PTH123
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            for name in controllers.split(","):
                yield name, path


def _mounts() -> Iterator[tuple[str, str, list[str]]]:
    """Yield (folder, kind, options) of mounted cgroup file systems."""
    with open("/proc/self/mounts") as file:  # noqa: PTH123
        for line in file:
            _, folder, kind, options, *_ = line.split(" ")
            if kind in ("cgroup", "cgroup2"):
                yield folder, kind, options.split(",")


def _passed_on(folder: str) -> list[str]:
    with contextlib.suppress(OSError), open(f"{folder}/cgroup.subtree_control") as file:  # noqa: PTH123
        return file.read().split()
    return []


def _sweep(parent: str) -> None:
    """Remove groups whose maker was killed before it could."""
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):  # noqa: PTH208
            maker = name.removeprefix(_PREFIX)
            if name != maker and maker.isdigit() and not os.path.exists(f"/proc/{maker}"):  # noqa: PTH110
                with contextlib.suppress(OSError):
                    os.rmdir(f"{parent}/{name}")  # noqa: PTH106
