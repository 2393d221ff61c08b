"""Hosts of a test's members: network namespaces with addresses of their own, or loopback."""

import os
import shutil
import subprocess
from collections.abc import Sequence

LOOPBACK = "127.0.0.1"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Loopback:
    """All members on one address."""

    def __init__(self, names: Sequence[str]) -> None:
        self.here = LOOPBACK
        self.addresses = dict.fromkeys(names, LOOPBACK)

    def command(self, name: str) -> list[str]:
        """Return what a member's command begins with."""
        return []

    def close(self) -> None:
        """Remove what was set up."""


class Namespaces(Loopback):
    """A namespace for each member, on one bridge with the test itself at ``here``."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._tag = f"kx{os.getpid()}"
        network = f"10.213.{os.getpid() % 250}"
        self.here = f"{network}.1"
        self.addresses = {name: f"{network}.{i}" for i, name in enumerate(names, start=2)}
        self._spaces = {name: f"{self._tag}-{i}" for i, name in enumerate(names)}
        _ip("link", "add", self._tag, "type", "bridge")
        try:
            _ip("address", "add", f"{self.here}/24", "dev", self._tag)
            _ip("link", "set", self._tag, "up")
            for name, space in self._spaces.items():
                _ip("netns", "add", space)
                ends = ("type", "veth", "peer", "name", "eth0", "netns", space)
                _ip("link", "add", space, *ends)
                _ip("link", "set", space, "master", self._tag, "up")
                _ip("-n", space, "address", "add", f"{self.addresses[name]}/24", "dev", "eth0")
                for device in ("eth0", "lo"):
                    _ip("-n", space, "link", "set", device, "up")
        except BaseException:
            self.close()
            raise

    def command(self, name: str) -> list[str]:
        """Return what a member's command begins with."""
        return ["ip", "netns", "exec", self._spaces[name]]

    def close(self) -> None:
        """Remove namespaces, their links, and the bridge."""
        for space in self._spaces.values():
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", self._tag], check=False, capture_output=True)


def best() -> type[Loopback]:
    """Return namespaces where this machine grants them."""
    if shutil.which("ip") is None:
        return Loopback
    try:
        Namespaces(["trial"]).close()
    except (OSError, subprocess.CalledProcessError):
        return Loopback
    return Namespaces
