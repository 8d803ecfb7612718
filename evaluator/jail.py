"""Starts one program with nothing but what it needs, watches it, and leaves nothing of it behind.

Three processes: this one, which Signoff waits for and may ask to stop; the first process of a new process namespace,
with whose end the kernel kills every other one in it; and the program. As root the program becomes a user that nobody
else is; otherwise a user namespace gives what is needed to arrange the rest. Where the machine refuses, the program
does not start, unless the order says ``isolate: false``: then limits and the clean environment are all there is.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evaluator import linux

NOBODY = 65534
STRANGERS = 1_879_048_192
"""User ids from here on belong to nobody: a sandbox as root takes the one that its process id points at."""
ROOT_FOLDER_BYTES = 1 << 20
MAX_PROCESSES = 128
MAX_OPEN_FILES = 512
DEVICES = ("null", "zero", "urandom", "random")
TICK = 0.1
_CHILD_OR_STOP = {signal.SIGCHLD, signal.SIGTERM}


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run, with what in sight. ``scratch`` is the one folder that can be written; it exists, and is empty."""

    command: list[str]
    environment: dict[str, str]
    visible: list[str]
    scratch: str
    seconds: float
    memory_bytes: int
    output_bytes: int
    isolate: bool
    status_fd: int
    result_fd: int


def main() -> None:
    """Obey the order in the first argument; what became of it is one line of JSON on its ``status_fd``."""
    order = Order(**json.loads(sys.argv[1]))
    linux.die_with_parent()
    os.set_inheritable(order.status_fd, False)
    try:
        _isolated(order) if order.isolate else _watch(order, _start(order, user=None), alone=False)
    except OSError as error:
        _tell(order, refused=str(error.strerror or error))


def _isolated(order: Order) -> None:
    root = os.geteuid() == 0
    user = STRANGERS + os.getpid() if root else NOBODY
    _leave_namespaces(root=root)
    if first := os.fork():
        signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGKILL))
        os.waitpid(first, 0)
        return
    linux.die_with_parent()
    try:
        _see_only(order, user)
        _watch(order, _start(order, user=user if root else None), alone=True)
    except OSError as error:
        _tell(order, refused=str(error.strerror or error))
    finally:
        os._exit(0)


def _leave_namespaces(*, root: bool) -> None:
    flags = linux.NEW_MOUNTS | linux.NEW_PROCESSES | linux.NEW_NETWORK | linux.NEW_IPC | linux.NEW_NAMES
    if root:
        linux.unshare(flags)
        return
    user, group = os.geteuid(), os.getegid()
    linux.unshare(flags | linux.NEW_USER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {user} 1"), ("gid_map", f"{NOBODY} {group} 1")):
        Path("/proc/self", name).write_text(text)


def _see_only(order: Order, user: int) -> None:
    """Make a new root folder, in memory, of what the program may see; all of it read-only but its scratch folder."""
    linux.forget_propagation()
    new_root = order.scratch
    linux.mount_memory(new_root, size=ROOT_FOLDER_BYTES, owner=os.geteuid())
    for path in sorted(order.visible):  # a folder before what is in it
        _show(new_root, path)
    devices = {f"/dev/{name}": _place(new_root, f"/dev/{name}", folder=False) for name in DEVICES}
    scratch, proc = _place(new_root, order.scratch, folder=True), _place(new_root, "/proc", folder=True)
    Path(new_root, "dev/shm").symlink_to(order.scratch)
    linux.make_read_only(new_root)
    for device, target in devices.items():
        linux.bind(device, target)
    linux.mount_memory(scratch, size=order.output_bytes, mode="0700", owner=user)
    with suppress(OSError):  # a container that hides parts of its own /proc lets nobody have another
        linux.mount_processes(proc)
    linux.become_root_folder(new_root)


def _show(new_root: str, path: str) -> None:
    target = Path(new_root + path)
    if os.path.lexists(target) or not os.path.lexists(path):
        return
    if Path(path).is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(path).readlink())
    else:
        linux.bind(path, _place(new_root, path, folder=Path(path).is_dir()))


def _place(new_root: str, path: str, *, folder: bool) -> str:
    target = Path(new_root + path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir(exist_ok=True) if folder else target.touch()
    return str(target)


def _start(order: Order, *, user: int | None) -> int:
    """The program's process id; ``user`` is whom it becomes, None where it stays who it is."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _CHILD_OR_STOP)
    if program := os.fork():
        return program
    try:
        os.chdir(order.scratch)
        os.umask(0o077)
        _limit(order)
        linux.give_up_privileges()
        if user is not None:
            _become(user)
        linux.die_with_parent()
        os.set_inheritable(order.result_fd, True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _CHILD_OR_STOP)
        os.execve(order.command[0], order.command, order.environment)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        _tell(order, refused=str(error.strerror or error))
    finally:
        os._exit(127)


def _become(user: int) -> None:
    os.setgroups([])
    try:
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError:  # a container with few user ids
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit(order: Order) -> None:
    cpu = int(order.seconds) + 1
    for what, most in (
        (resource.RLIMIT_AS, order.memory_bytes),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, order.output_bytes),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        *(((resource.RLIMIT_NPROC, MAX_PROCESSES),) if order.isolate else ()),
    ):
        resource.setrlimit(what, (most, most))


def _watch(order: Order, program: int, *, alone: bool) -> None:
    """Wait for the program and say how it ended; then nothing that it started is left.

    ``alone``: this is the first process of a namespace, so everything else in sight belongs to the program.
    """
    linux.adopt_orphans()
    deadline = time.monotonic() + order.seconds
    told: dict[str, object] = {}
    while not told:
        came = signal.sigtimedwait(_CHILD_OR_STOP, TICK)
        if came and came.si_signo == signal.SIGTERM:
            told = {"stopped": True}
        elif (ended := _reaped(program)) is not None:
            told = {"signal": -ended} if ended < 0 else {"exit": ended}
        elif time.monotonic() > deadline:
            told = {"limit": "time"}
        elif _memory(_others(alone=alone)) > order.memory_bytes:
            told = {"limit": "memory"}
    _tell(order, **told)
    while not alone and (others := _others(alone=False)):
        for process in others:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _reaped(program)
        time.sleep(0.005)


def _reaped(program: int) -> int | None:
    """How the program ended (negative: by which signal), None while it runs; other dead processes are cleared away."""
    found = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == program:
                found = os.waitstatus_to_exitcode(ended[1])
    return found


def _others(*, alone: bool) -> list[int]:
    """The program and everything it started; as far as ``/proc`` can be read."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
    if alone:
        return [process for process in parents if process != 1]
    mine, found = {os.getpid()}, list[int]()
    while more := [process for process, parent in parents.items() if parent in mine and process not in mine]:
        mine.update(more)
        found += more
    return found


def _memory(processes: list[int]) -> int:
    """Bytes of memory that these processes hold together; what they share counts for each."""
    pages = 0
    for process in processes:
        with suppress(OSError, ValueError):
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _tell(order: Order, **what: object) -> None:
    os.write(order.status_fd, json.dumps(what).encode() + b"\n")
