"""On PYTHONPATH this keeps a kernel off the network: Python imports it at start, then only the loopback answers."""

import ipaddress
import sys


def _is_loopback(address) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path
        return True
    try:
        return ipaddress.ip_address(address[0].split("%")[0]).is_loopback
    except ValueError:
        return address[0] in ("localhost", "")


def _refuse(event: str, arguments: tuple) -> None:
    if not event.startswith("socket."):  # most are not
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = (arguments[0] or "", 0)
        if isinstance(address[0], bytes):
            address = (address[0].decode(), 0)
    else:
        return
    if address is not None and not _is_loopback(address):
        raise OSError(f"The network is off here, and {address[0]} is not on this machine.")


sys.addaudithook(_refuse)
