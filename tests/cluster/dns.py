"""The cluster's name server, run by its path: answers for the Services through which the pods of a job find each other.

    python dns.py NETWORK KUBECONFIG_JSON

It listens to the pods in their network namespace, and asks the API server from the machine's: no pod reaches that one.
Names are ``SERVICE.NAMESPACE.svc.cluster.local``; the answer is the addresses behind the Service, as for every headless
Service. Only the standard library: nothing of the checkout is on its path.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import ssl
import struct
import sys
import urllib.error
import urllib.request
from pathlib import Path

DOMAIN = [b"svc", b"cluster", b"local"]
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3
TYPE_A = 1
SECONDS_TO_LIVE = 1


def main() -> None:
    """See the module."""
    listener = listen_in(Path(sys.argv[1]))
    access = json.loads(Path(sys.argv[2]).read_text())
    context = ssl.create_default_context(cadata=access["authority"])
    while True:
        packet, client = listener.recvfrom(4096)
        labels, kind, question = read_question(packet)
        code, addresses = look_up(labels, access, context)
        listener.sendto(answer(packet, question, code, addresses if kind == TYPE_A else []), client)


def listen_in(network: Path) -> socket.socket:
    """A socket for DNS in another network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open() as own, network.open() as other:
        enter(libc, other.fileno())
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("0.0.0.0", 53))
        enter(libc, own.fileno())
    return listener


def enter(libc: ctypes.CDLL, namespace: int) -> None:
    """Let this process use a namespace from now on; the os module can do that since Python 3.12."""
    if libc.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def read_question(packet: bytes) -> tuple[list[bytes], int, bytes]:
    """The labels and the type of the first question, and the question as it stands there."""
    labels, at = [], 12
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].lower())
        at += 1 + length
    (kind,) = struct.unpack_from("!H", packet, at + 1)
    return labels, kind, packet[12 : at + 5]


def look_up(labels: list[bytes], access: dict[str, str], context: ssl.SSLContext) -> tuple[int, list[str]]:
    """A response code, and the addresses behind a name."""
    if len(labels) != 2 + len(DOMAIN) or labels[2:] != DOMAIN:
        return NO_SUCH_NAME, []
    service, namespace = (label.decode() for label in labels[:2])
    url = f"{access['server']}/api/v1/namespaces/{namespace}/endpoints/{service}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {access['token']}"})
    try:
        with urllib.request.urlopen(request, context=context, timeout=5) as response:
            subsets = json.load(response).get("subsets", [])
    except urllib.error.HTTPError as error:
        return (NO_SUCH_NAME if error.code == 404 else SERVER_FAILURE), []
    except OSError:
        return SERVER_FAILURE, []
    addresses = [address["ip"] for subset in subsets for address in subset.get("addresses", [])]
    return (NO_ERROR if addresses else NO_SUCH_NAME), addresses


def answer(packet: bytes, question: bytes, code: int, addresses: list[str]) -> bytes:
    """The response to a packet."""
    authoritative_response = 0x8400
    recursion_desired = packet[2] & 1
    flags = authoritative_response | recursion_desired << 8 | code
    header = packet[:2] + struct.pack("!5H", flags, 1, len(addresses), 0, 0)
    name_of_question = b"\xc0\x0c"
    fixed = struct.pack("!HHIH", TYPE_A, 1, SECONDS_TO_LIVE, 4)
    records = [name_of_question + fixed + socket.inet_aton(address) for address in addresses]
    return header + question + b"".join(records)


if __name__ == "__main__":
    os.chdir("/")
    main()
