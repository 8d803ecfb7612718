"""The few system calls that isolation needs and Python 3.11 does not have. Each raises ``OSError`` when refused."""

from __future__ import annotations

import ctypes
import os

NEW_MOUNTS, NEW_NAMES, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip

_NOSUID, _NODEV, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 4096, 16384, 1 << 18
_DETACH = 2
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000
_PARENT_DEATH, _DROP_CAPABILITY, _SUBREAPER, _NO_NEW_PRIVILEGES = 1, 24, 36, 38
_SIGKILL = 9
_LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave the namespaces that ``flags`` names for new ones."""
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def forget_propagation() -> None:
    """No mount made from here on is seen outside."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)


def mount_memory(target: str, *, size: int, mode: str = "0755", owner: int = 0) -> None:
    """An empty file system in memory, of ``size`` bytes at most."""
    _mount("tmpfs", target, "tmpfs", _NOSUID | _NODEV, f"size={size},mode={mode},uid={owner},gid={owner}")


def mount_processes(target: str) -> None:
    """``/proc`` of the new process namespace."""
    _mount("proc", target, "proc", _NOSUID | _NODEV)


def bind(source: str, target: str) -> None:
    """Show a file or folder a second time."""
    _mount(source, target, None, _BIND | _RECURSIVE)


def make_read_only(target: str) -> None:
    """Neither a mount nor any below it can be written, hold devices or give privileges."""
    attributes = (ctypes.c_uint64 * 4)(1 | 2 | 4, 0, 0, 0)
    arguments = (ctypes.c_char_p(os.fsencode(target)), ctypes.c_uint(_AT_RECURSIVE), attributes, ctypes.c_size_t(32))
    result = _libc.syscall(ctypes.c_long(_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), *arguments)
    _checked(f"read-only {target}", result)


def become_root_folder(new_root: str) -> None:
    """Make ``new_root`` the only file system there is."""
    os.chdir(new_root)
    _checked("pivot_root", _libc.pivot_root(b".", b"."))
    _checked("umount", _libc.umount2(b".", ctypes.c_int(_DETACH)))
    os.chdir("/")


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends, however it ends."""
    _control(_PARENT_DEATH, _SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ended: a daemon does not get away."""
    _control(_SUBREAPER, 1)


def give_up_privileges() -> None:
    """Nothing that is executed from here on can have more privileges than this user, whatever its mode bits say."""
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            _control(_DROP_CAPABILITY, capability)
        except OSError:  # not one of this kernel's, or without the right to drop: then none can be gained either
            break
    _control(_NO_NEW_PRIVILEGES, 1)


def _control(option: int, value: int) -> None:
    arguments = [ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3]
    _checked("prctl", _libc.prctl(ctypes.c_int(option), *arguments))


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    data = None if options is None else options.encode()
    _checked(f"mount {target}", _libc.mount(*encoded, ctypes.c_ulong(flags), data))


def _checked(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
