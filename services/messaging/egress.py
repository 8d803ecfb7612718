"""Where messages may go: the address of every connection is checked at the moment it is made.

A name can resolve to one address when it is looked at and to another when it is used, and ``0x7f.1`` is an address
too. So names are not judged at all: Python's own audit event for connecting names the very address that is about to
be connected to, whichever library asks. Only the threads that deliver are watched (docs/decisions/011), so a thread
that delivers may start no other thread and no process: nobody would watch those.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NoReturn

Network = IPv4Network | IPv6Network

NEVER = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"), ip_network("fd00:ec2::/32"))
"""Link-local: where a cloud keeps a machine's own credentials. No setting allows these."""
_LOCAL_NAT64 = ip_network("64:ff9b:1::/48")
_INTERNAL = (
    ip_network("168.63.129.16/32"),  # Azure's wire server, which hands a machine its settings
    ip_network("192.0.0.0/24"),  # for protocols only; Oracle's cloud has its metadata at 192.0.0.192
    ip_network("fec0::/10"),  # site-local: out of use since RFC 3879, and routed inside some networks still
    _LOCAL_NAT64,  # translated by a network of one's own, to addresses of its choice
)
"""What Python takes for public, or may, and is not: allowed by settings only."""
_NAT64 = ip_network("64:ff9b::/96")
_EMBEDDED = ((12, 13, 14, 15), (9, 10, 11, 12), (7, 9, 10, 11), (6, 7, 9, 10))
"""Where RFC 6052 puts the bytes of an IPv4 address behind a prefix of 96, 64, 56 and 48 bits."""
_CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_STARTING = frozenset(
    (
        *("_thread.start_new_thread", "_thread.start_joinable_thread"),
        *("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"),
    )
)
"""What begins a thread or a process, by the name of Python's audit event."""


class ForbiddenAddress(OSError):
    """Nothing is sent; libraries take it for a connection that failed, and try the host's next address."""


class _Watch(threading.local):
    allowed: Sequence[Network] | None = None  # None: this thread is nobody's business
    refused: str | None = None


_watch = _Watch()
_installed = threading.Lock()


def reason(host: str, allowed: Sequence[Network] = ()) -> str | None:
    """Why nothing may be sent to an address, as a sentence's predicate; None where it may."""
    try:
        address = _meant(ip_address(host.split("%", maxsplit=1)[0]))
    except ValueError:
        return "is a name where an address is needed"
    if any(one in network for one in (address, *_perhaps(address)) for network in NEVER):
        return "is a link-local address"
    if any(address in network for network in allowed):
        return None
    internal = any(address in network for network in _INTERNAL)
    if internal or not address.is_global or address.is_multicast or address.is_reserved:
        return "is not a public address"
    return None


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(address.packed[-4:])
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


def _perhaps(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address]:
    """Every IPv4 address that a network of one's own may translate an IPv6 one to: only it knows its prefix."""
    if address in _LOCAL_NAT64:
        yield from (IPv4Address(bytes(address.packed[at] for at in where)) for where in _EMBEDDED)


@contextmanager
def watched(allowed: Sequence[Network]) -> Iterator[None]:
    """Let this thread connect to public addresses and ``allowed`` networks only; `refused` says what was not.

    Inside, it can start neither a thread nor a process.
    """
    install()
    before = (_watch.allowed, _watch.refused)
    _watch.allowed, _watch.refused = tuple(allowed), None
    try:
        yield
    finally:
        _watch.allowed, _watch.refused = before


def refused() -> str | None:
    """What was refused last inside `watched`, as a sentence; None when nothing was."""
    return _watch.refused


def install() -> None:
    """Begin to listen, once a process. It cannot be undone, and costs a third of a microsecond an audit event."""
    if not _installed.acquire(blocking=False):
        return
    sys.addaudithook(_heard)
    if sys.version_info < (3, 12):  # Python has no audit event for a thread that is started
        for place, name in ((threading.Thread, "start"), (_thread, "start_new_thread")):
            setattr(place, name, _heard_first(getattr(place, name)))


def _heard_first(start: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(start)
    def begin(*arguments: Any, **options: Any) -> Any:
        _heard("_thread.start_new_thread", ())
        return start(*arguments, **options)

    return begin


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch.allowed is None:
        return
    if event in _STARTING:
        _refuse(f"A thread or process of its own ({event}) is not watched, so it was not started and sent nothing.")
    if event not in _CONNECTING:
        return
    target = arguments[1]
    if target is None:
        return  # sendmsg on a socket that is connected already
    host = target[0] if isinstance(target, tuple) and isinstance(target[0], str) else ""
    why = reason(host, _watch.allowed)
    if why:
        _refuse(f"{host or 'What was asked for'} {why}, and nothing was sent to it.")


def _refuse(why: str) -> NoReturn:
    _watch.refused = why
    raise ForbiddenAddress(why)
