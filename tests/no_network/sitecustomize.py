"""Put on PYTHONPATH by tests: refuses and records every connection beyond this machine, name look-ups included."""

import os
import socket

_LOCAL = {"localhost", "127.0.0.1", "::1", "0.0.0.0", "", None}
_connect, _look_up = socket.socket.connect, socket.getaddrinfo


def _record(target: object) -> None:
    path = os.environ.get("FTLAB_TEST_NETWORK_ATTEMPTS")
    if path:
        with open(path, "a") as file:
            file.write(f"{target}\n")


def connect(self, address):
    # Connecting a datagram socket only looks up the route: nothing is sent. Raters' links name this machine so.
    looks_up_a_route = self.type == socket.SOCK_DGRAM and address[0] == "192.0.2.1"
    if not looks_up_a_route and self.family != getattr(socket, "AF_UNIX", None) and address[0] not in _LOCAL:
        _record(address)
        raise OSError(101, "Network is unreachable (refused by the tests)")
    return _connect(self, address)


def getaddrinfo(host, *arguments, **settings):
    name = host.decode() if isinstance(host, bytes) else host
    if name not in _LOCAL and not str(name).startswith("127."):
        _record(name)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known (refused by the tests)")
    return _look_up(host, *arguments, **settings)


socket.socket.connect = connect
socket.getaddrinfo = getaddrinfo
