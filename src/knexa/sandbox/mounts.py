"""A private root: the interpreter and system libraries, read-only, and a scratch directory.

It does in-process what bubblewrap does: an empty tmpfs becomes the root, a few folders are bound
into it, and the old root is detached. So no other program has to be installed or started. It also
lets the unprivileged user read an interpreter that lies in a closed home directory.
"""

import contextlib
import ctypes
import os
import struct
import sys
import sysconfig

from . import kernel

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_RESTRICTED = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
_MNT_DETACH = 2
_CLONE_NEWNS = 0x00020000
_SYS_PIVOT_ROOT = (155, 41)
_SYS_MOUNT_SETATTR, _AT_RECURSIVE, _ATTR_READ_ONLY = 442, 0x8000, 1
_SCRATCH_MB = 64
_HOST = "/tmp"  # where the new root is assembled; covered in this namespace only
SCRATCH = "/tmp"
"""The scratch directory inside the private tree."""

SYSTEM = (
    *("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"),
    *("/etc/localtime", "/dev/urandom", "/dev/random", "/dev/zero"),
)
"""Paths that a program may read besides the interpreter's own library."""


def readable() -> tuple[str, ...]:
    """Return the paths that a program may read: the interpreter's library and the system's."""
    library, stdlib = sys.base_prefix + "/lib", sysconfig.get_path("stdlib")
    inside = os.path.commonpath((library, stdlib)) == library
    return (*((library,) if inside else (stdlib, library)), *SYSTEM)


def enter_private_root() -> tuple[str, ...]:
    """Replace the root with a private one; needs a mount namespace.

    Returns:
        The names of the layers in force. /proc shows a program's own process only, and is absent
        if the kernel denies such a mount.
    """
    number = kernel.trial(_try_private_root)
    if number:
        text = f"building a private file tree: {os.strerror(number)}"
        kernel.refused.update({"own-root": text, "own-scratch": text, "own-proc": text})
        return ()
    names = ["own-root", "own-scratch"]
    if _build_root():
        names.append("own-proc")
    else:
        kernel.refused["own-proc"] = "mounting /proc is denied; there is none in the sandbox"
    return tuple(names)


def _try_private_root() -> None:
    assert kernel.libc is not None
    kernel.check(kernel.libc.unshare(_CLONE_NEWNS), "unshare")
    _build_root()


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    assert kernel.libc is not None
    words = [word.encode() for word in (source, target, kind)]
    done = kernel.libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None)
    kernel.check(done, f"mount {target}")


def _build_root() -> bool:
    """Build the tree and make it the root; return whether it has a /proc of its own."""
    assert kernel.libc is not None
    assert kernel.MACHINE is not None
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    # Opened first, since the new root may cover them.
    wanted = [(path, _open(path)) for path in dict.fromkeys((*readable(), "/dev/null"))]
    _mount("tmpfs", _HOST, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=0755")
    for path, descriptor in wanted:
        if descriptor is not None:
            _bind(path, descriptor)
    for path in ("/proc", SCRATCH):
        os.makedirs(_HOST + path, exist_ok=True)  # noqa: PTH103
    has_proc = True
    try:
        # Hides the server, whose counters outlive a program, and the machine.
        _mount("proc", f"{_HOST}/proc", "proc", _RESTRICTED, "hidepid=2,subset=pid")
    except OSError:
        has_proc = False
    read_only = struct.pack("QQQQ", _ATTR_READ_ONLY, 0, 0, 0)
    done = kernel.syscall(
        _SYS_MOUNT_SETATTR, -100, _HOST.encode(), _AT_RECURSIVE, read_only, len(read_only)
    )
    kernel.check(done, "mount_setattr")
    options = f"size={_SCRATCH_MB}m,mode=0777,nr_inodes=4096"
    _mount("tmpfs", _HOST + SCRATCH, "tmpfs", _RESTRICTED, options)
    os.chdir(_HOST)
    done = kernel.syscall(_SYS_PIVOT_ROOT[kernel.MACHINE], b".", b".")
    kernel.check(done, "pivot_root")
    kernel.check(kernel.libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")
    return has_proc


def _open(path: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    return None


def _bind(path: str, descriptor: int) -> None:
    """Bind the descriptor's file or folder to the same path in the new root; close it."""
    target = _HOST + path
    is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}")  # noqa: PTH112
    os.makedirs(target if is_folder else os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
    if not is_folder:
        with open(target, "xb"):  # noqa: PTH123
            pass
    _mount(f"/proc/self/fd/{descriptor}", target, "", _MS_BIND | _MS_REC)
    os.close(descriptor)
