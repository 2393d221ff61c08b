"""A private root: the interpreter and system libraries, read-only, and a scratch directory.

It does in-process what bubblewrap does: an empty tmpfs becomes the root, a few folders are bound
into it, and the old root is detached. So no other program has to be installed or started. It also
lets the unprivileged user read an interpreter that lies in a closed home directory.
"""

import contextlib
import ctypes
import functools
import glob
import os
import struct
import sys
import sysconfig
from collections.abc import Iterator

from . import kernel

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME = 2, 4, 8, 0x400
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_RESTRICTED = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
_MNT_DETACH = 2
_CLONE_NEWNS = 0x00020000
_SYS_PIVOT_ROOT = (155, 41)
_SYS_MOUNT_SETATTR, _AT_RECURSIVE, _ATTR_READ_ONLY = 442, 0x8000, 1
SCRATCH_MB = 64
"""Size of the scratch directory in MiB."""
_HOST = "/tmp"  # where the new root is assembled; covered in this namespace only
SCRATCH = "/tmp"
"""The scratch directory inside the private tree."""

_PACKAGES = ("site-packages", "dist-packages")
_WHEELS = "ensurepip"  # has pip and more as archives that can be imported


def readable() -> tuple[str, ...]:
    """Return the paths that a program may read: the interpreter's library and the system's.

    What lies in ``package_folders`` is not among it.
    """
    library = sys.base_prefix + "/lib"
    paths = [sysconfig.get_path("stdlib"), *_system()]
    # A library folder of the whole system holds other programs too; the loader's part is enough.
    if library not in ("/usr/lib", "/lib"):
        paths.append(library)
    inside = {one for one in paths for other in paths if one.startswith(other + "/")}
    return tuple(path for path in dict.fromkeys(paths) if path not in inside)


def _system() -> Iterator[str]:
    """Yield the folders of shared libraries, the time zones and the devices."""
    for folder in ("/usr/lib", "/lib"):
        own = glob.glob(f"{folder}/*-linux-*")  # noqa: PTH207
        yield from own or [folder]
    yield from ("/usr/lib64", "/lib64", "/usr/lib/locale", "/usr/share/zoneinfo")
    yield from ("/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/random", "/dev/zero")


@functools.cache
def package_folders() -> tuple[str, ...]:
    """Return the folders of installed packages below readable ones: nobody's code but Python's."""
    found = []
    for root in readable():
        for folder, names, _ in os.walk(root):
            hidden = [name for name in names if name in (*_PACKAGES, _WHEELS)]
            found += [f"{folder}/{name}" for name in hidden]
            names[:] = [name for name in names if name not in hidden]
    return tuple(found)


def readable_entries() -> Iterator[tuple[str, bool]]:
    """Yield paths that cover ``readable`` without ``package_folders``; False: its names alone."""
    pending = list(readable())
    for path in pending:
        if path in package_folders():
            continue
        is_whole = not any(hidden.startswith(path + "/") for hidden in package_folders())
        pending += [] if is_whole else [f"{path}/{name}" for name in os.listdir(path)]  # noqa: PTH208
        yield path, is_whole


def enter_private_root() -> tuple[tuple[str, ...], int | None]:
    """Replace the root with a private one; needs a mount namespace.

    Returns:
        The names of the layers in force, and a descriptor of this namespace's /proc, which is
        nowhere in the tree; None if the kernel denies such a mount.
    """
    package_folders()  # found once, not again in the trial
    number = kernel.trial(_try_private_root)
    if number:
        text = f"building a private file tree: {os.strerror(number)}"
        kernel.refused.update({"own-root": text, "own-scratch": text})
        return (), None
    return ("own-root", "own-scratch"), _build_root()


def _try_private_root() -> None:
    assert kernel.libc is not None
    kernel.check(kernel.libc.unshare(_CLONE_NEWNS), "unshare")
    _build_root()


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    assert kernel.libc is not None
    words = [word.encode() for word in (source, target, kind)]
    done = kernel.libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None)
    kernel.check(done, f"mount {target}")


def _build_root() -> int | None:
    """Build the tree and make it the root; return a descriptor of its hidden /proc."""
    assert kernel.libc is not None
    assert kernel.MACHINE is not None
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    # Opened first, since the new root may cover them.
    wanted = [(path, _open(path)) for path in dict.fromkeys((*readable(), "/dev/null"))]
    _mount("tmpfs", _HOST, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=0755")
    for path, descriptor in wanted:
        if descriptor is not None:
            _bind(path, descriptor)
    for path in package_folders():
        _mount("tmpfs", _HOST + path, "tmpfs", _RESTRICTED, "size=4k,mode=0555")
    os.makedirs(_HOST + SCRATCH, exist_ok=True)  # noqa: PTH103
    proc = _open_proc()
    read_only = struct.pack("QQQQ", _ATTR_READ_ONLY, 0, 0, 0)
    done = kernel.syscall(
        _SYS_MOUNT_SETATTR, -100, _HOST.encode(), _AT_RECURSIVE, read_only, len(read_only)
    )
    kernel.check(done, "mount_setattr")
    options = f"size={SCRATCH_MB}m,mode=0777,nr_inodes=4096"
    _mount("tmpfs", _HOST + SCRATCH, "tmpfs", _RESTRICTED | _MS_NOATIME, options)
    os.chdir(_HOST)
    done = kernel.syscall(_SYS_PIVOT_ROOT[kernel.MACHINE], b".", b".")
    kernel.check(done, "pivot_root")
    kernel.check(kernel.libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")
    return proc


def _open_proc() -> int | None:
    """Mount /proc, open it and take it out of the tree again: what it shows is for the server.

    A program would learn there which pages of a library others use too, the server's counters,
    and where the machine keeps what.
    """
    with contextlib.suppress(OSError):
        _mount("proc", f"{_HOST}{SCRATCH}", "proc", _RESTRICTED)
        proc = _open(_HOST + SCRATCH)
        assert kernel.libc is not None
        kernel.check(kernel.libc.umount2((_HOST + SCRATCH).encode(), _MNT_DETACH), "umount2")
        return proc
    return None


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
