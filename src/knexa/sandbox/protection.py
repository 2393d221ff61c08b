"""The layers of the sandbox by name: what each prevents, and what a machine needs to have it.

Which ones are in force is reported by the sandbox server (``Executor.layers``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_USER_NAMESPACES = "run as root, or let users make namespaces (sysctl user.max_user_namespaces)"
_KERNEL = "a Linux kernel of 5.13 or later on x86-64 or aarch64"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its name, what it keeps a program from, and what a machine needs to have it."""

    name: str
    keeps_from: str
    needs: str
    is_extra: bool = False
    """Whether the others hold without it: a run neither warns nor refuses where it is missing."""


LAYERS: tuple[Layer, ...] = (
    Layer("network-namespace", "the network, this machine's own ports included", _USER_NAMESPACES),
    Layer("pid-namespace", "seeing, signalling or outliving any process", _USER_NAMESPACES),
    Layer("mount-namespace", "changing what others see mounted", _USER_NAMESPACES),
    Layer("ipc-namespace", "shared memory and queues of others", _USER_NAMESPACES),
    Layer("uts-namespace", "the machine's name", _USER_NAMESPACES),
    Layer("own-root", "every file but the interpreter's and the system's libraries", _KERNEL),
    Layer("own-scratch", "filling a disk: 64 MiB of memory, gone with the server", _KERNEL),
    Layer("landlock", "files outside its scratch, once more, and TCP from ABI 4", _KERNEL),
    Layer("own-user", "starting tasks without number: the kernel counts them", _USER_NAMESPACES),
    Layer("not-root", "what the kernel lets root alone do", "an interpreter that nobody can read"),
    Layer("no-capabilities", "mounting, tracing, raw devices, other users' files", _KERNEL),
    Layer("no-new-privileges", "gaining rights through setuid files", _KERNEL),
    Layer("seccomp", "every system call but the 130 that computing and files take", _KERNEL),
    Layer("resource-limits", "CPU, memory, file sizes and open files without bound", "POSIX"),
    Layer(
        "memory-cgroup",
        "memory that is counted for no process: files in its scratch, the kernel's own",
        "a cgroup of this process that controls memory and that it may divide (systemd: Delegate)",
        is_extra=True,
    ),
)
"""All layers, outermost first."""


def missing(in_force: Iterable[str]) -> tuple[Layer, ...]:
    """Return the layers that are not among the names (``landlock-7`` is landlock)."""
    names = set(in_force)
    names |= {"landlock" for name in names if name.startswith("landlock-")}
    return tuple(layer for layer in LAYERS if layer.name not in names)


def required(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """Return those layers that a run warns of or refuses to run without."""
    return tuple(layer for layer in layers if not layer.is_extra)


def complaint(layers: Iterable[Layer], refused: Mapping[str, str]) -> str:
    """Return one line that names missing layers, the reasons, and what would provide them."""
    listed = list(layers)
    reasons = dict.fromkeys(refused[each.name] for each in listed if each.name in refused)
    needs = dict.fromkeys(each.needs for each in listed)
    text = f"without {', '.join(each.name for each in listed)}"
    if reasons:
        text += f" ({'; '.join(reasons)})"
    return f"{text}; to have them: {'; '.join(needs)}; `knexa doctor` shows all"
