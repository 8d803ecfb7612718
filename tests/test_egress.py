"""Where messages may not go: every way to write an address of one's own, a name that means one, and redirects."""

from __future__ import annotations

import _thread
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import Any

import pytest
import requests
from apprise.plugins.custom_json import NotifyJSON

from services.messaging import delivery, egress
from services.messaging.delivery import NotDelivered
from services.messaging.message_text import Letter
from tests.receivers import post, web

HERE = (ip_network("127.0.0.0/8"),)
LETTER = Letter(id="i" * 32, title="t", tone="info", lines=(), comment="", url="http://signoff/", proof=())

INSIDE = {
    "127.0.0.1": "127.0.0.1",
    "short": "127.1",
    "decimal": "2130706433",
    "hexadecimal": "0x7f000001",
    "hexadecimal parts": "0x7f.0.0.1",
    "octal": "017700000001",
    "octal parts": "0177.0.0.01",
    "any": "0.0.0.0",
    "a name": "localhost",
    "IPv6": "[::1]",
    "IPv4 in IPv6": "[::ffff:127.0.0.1]",
    "metadata": "169.254.169.254",
    "metadata, decimal": "2852039166",
    "metadata in IPv6": "[::ffff:169.254.169.254]",
    "10/8": "10.0.0.1",
    "172.16/12": "172.16.0.1",
    "192.168/16": "192.168.0.1",
    "carrier": "100.64.0.1",
    "NAT64": "[64:ff9b::7f00:1]",
    "6to4": "[2002:7f00:1::1]",
    "unique local": "[fd00::1]",
    "link local": "[fe80::1]",
    "site local": "[fec0::1]",
    "Oracle's metadata": "192.0.0.192",
    "Azure's wire server": "168.63.129.16",
    "NAT64 of local use": "[64:ff9b:1::808:808]",
    "multicast": "224.0.0.1",
}


def refused(kind: str, address: str, *allowed: Any) -> str:
    """Why a letter was not delivered there."""
    with pytest.raises(NotDelivered) as told:
        delivery.channel(kind, address)(LETTER, allowed)
    return str(told.value)


class TestRefused:
    @pytest.mark.parametrize("host", INSIDE.values(), ids=INSIDE.keys())
    def test_an_address_of_our_own_is_never_connected_to(self, host: str) -> None:
        with web() as receiver:
            port = receiver.url.split(":")[2].split("/")[0]
            assert "nothing was sent to it" in refused("webhook", f"http://{host}:{port}/hook")
            assert receiver.paths == []

    @pytest.mark.parametrize("target", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
    def test_a_name_that_resolves_to_one(self, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
        """What a name means is asked once and connected to as answered: there is no second look to be fooled."""
        asked: list[str] = []

        def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (target, port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert refused("webhook", "http://public.example/hook").startswith(target)
        assert asked == ["public.example"]

    def test_a_name_that_changes_its_mind_between_two_looks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """DNS rebinding: public when first asked, our own afterwards. Only what is connected to counts."""
        answers = iter(["93.184.216.34", *["127.0.0.1"] * 9])

        def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        socket.getaddrinfo("public.example", 80)
        assert refused("webhook", "http://public.example/hook").startswith("127.0.0.1")

    def test_a_redirect_to_one(self) -> None:
        """Redirects are not followed at all, not even where both ends are allowed."""
        with web() as receiver, web() as inside:
            receiver.status, receiver.location = 307, inside.url
            assert refused("webhook", receiver.url, *HERE) == "The receiver answered HTTP 307."
            assert inside.paths == []

    def test_an_address_cannot_switch_redirects_on_or_certificates_off(self) -> None:
        with web() as receiver, web() as inside:
            receiver.status, receiver.location = 302, inside.url
            assert "302" in refused("webhook", receiver.url + "?redirect=yes&verify=no", *HERE)
            assert inside.paths == []

    def test_a_mail_server(self) -> None:
        with post() as box:
            send = delivery.mail_server(box.url, sender="a@signoff.example", to="d@signoff.example")
            with pytest.raises(NotDelivered, match="not a public address"):
                send(LETTER, ())
            assert box.got == []
            send(LETTER, HERE)
            assert len(box.got) == 1

    def test_link_local_even_where_it_would_be_allowed(self) -> None:
        assert egress.reason("169.254.169.254", [ip_network("0.0.0.0/0")]) == "is a link-local address"
        assert egress.reason("fe80::1%eth0", [ip_network("::/0")]) == "is a link-local address"

    @pytest.mark.parametrize(
        "host",
        ["64:ff9b:1::a9fe:a9fe", "64:ff9b:1:2:a9:fea9:fe00:0", "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:a9fe:a9:fe00::"],
        ids=["96", "64", "56", "48"],
    )
    def test_link_local_behind_a_translation_of_ones_own(self, host: str) -> None:
        """RFC 6052 knows several places for an IPv4 address, and only the network knows which one it uses."""
        assert egress.reason(host, [ip_network("64:ff9b:1::/48")]) == "is a link-local address"
        assert egress.reason("64:ff9b:1::808:808", [ip_network("64:ff9b:1::/48")]) is None

    def test_a_socket_that_is_no_internet_address(self) -> None:
        with egress.watched(()), socket.socket(socket.AF_UNIX) as unix, pytest.raises(egress.ForbiddenAddress):
            unix.connect("/var/run/docker.sock")

    def test_a_datagram(self) -> None:
        with egress.watched(()), socket.socket(type=socket.SOCK_DGRAM) as datagram:
            with pytest.raises(egress.ForbiddenAddress):
                datagram.sendto(b"x", ("127.0.0.1", 9))
            with pytest.raises(egress.ForbiddenAddress):
                datagram.sendmsg([b"x"], [], 0, ("127.0.0.1", 9))


class TestWhatWouldNotBeWatched:
    """A thread or a process that a library starts to send with is refused, whatever address it would connect to."""

    def test_a_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def send(*_: Any, **__: Any) -> bool:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(requests.post, receiver.url, json={}, timeout=5).result() is not None

        with web() as receiver:
            monkeypatch.setattr(NotifyJSON, "send", send)
            with pytest.raises(NotDelivered, match="not watched") as told:
                delivery.channel("webhook", "https://public.example/hook")(LETTER, ())
            assert told.value.final
            assert receiver.paths == []

    def test_a_thread_of_the_lowest_kind(self) -> None:
        begun = threading.Event()
        with egress.watched(()), pytest.raises(egress.ForbiddenAddress, match="not watched"):
            _thread.start_new_thread(begun.set, ())
        assert not begun.is_set()

    @pytest.mark.parametrize(
        "start",
        [
            lambda: subprocess.run(["true"], check=True),
            lambda: os.system("true"),
            lambda: os.fork() or os._exit(0),
            lambda: os.posix_spawn("/bin/true", ["true"], {}),
        ],
        ids=["subprocess", "shell", "fork", "spawn"],
    )
    def test_a_process(self, start: Callable[[], object]) -> None:
        with egress.watched(()):
            with pytest.raises(egress.ForbiddenAddress, match="not watched"):
                start()
            assert "was not started" in (egress.refused() or "")


class TestAllowed:
    @pytest.mark.parametrize("host", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
    def test_a_public_address(self, host: str) -> None:
        assert egress.reason(host) is None

    def test_a_network_of_ones_own_that_is_named(self) -> None:
        assert egress.reason("10.1.2.3", [ip_network("10.1.0.0/16")]) is None
        assert egress.reason("10.2.2.3", [ip_network("10.1.0.0/16")]) is not None

    @pytest.mark.parametrize("host", ["fec0::1", "192.0.0.192", "168.63.129.16"])
    def test_an_internal_address_that_looks_public(self, host: str) -> None:
        assert egress.reason(host) == "is not a public address"
        assert egress.reason(host, [ip_network(host)]) is None

    def test_threads_that_were_there_before_are_not_watched(self) -> None:
        """MLflow and the database are on private addresses more often than not."""
        with web() as receiver:
            port, watching, answers = int(receiver.url.split(":")[2].split("/")[0]), threading.Event(), []

            def connect() -> None:
                watching.wait()
                with socket.create_connection(("127.0.0.1", port), timeout=5):
                    answers.append("connected")

            other = threading.Thread(target=connect)
            other.start()
            with egress.watched(()):
                watching.set()
                other.join()
            assert answers == ["connected"]

    def test_nor_is_this_one_afterwards(self) -> None:
        with web() as receiver:
            with egress.watched(()):
                pass
            port = int(receiver.url.split(":")[2].split("/")[0])
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                pass
