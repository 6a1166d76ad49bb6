"""Echo in every size over UDP and ICMPv6, for the tests in network namespaces.

echo.py serve ADDRESS PORT            answers datagrams with themselves
echo.py udp ADDRESS PORT FROM TO      sends FROM..TO octets by UDP
echo.py icmp6 ADDRESS FROM TO         the same with ICMPv6 echo requests
Prints which sizes were not answered intact, as ranges, or "all answered".
"""

import socket
import struct
import sys

WINDOW = 96
ROUNDS = 3
PATIENCE = 0.2


def content(size):
    """Octets that tell their place and size."""
    return bytes((at * 7 + at // 256 + size) % 256 for at in range(size))


def serve(address, port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    print("ready", flush=True)
    while True:
        data, peer = sock.recvfrom(65535)
        sock.sendto(data, peer)


class Udp:
    def __init__(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.connect((address, port))

    def send(self, size):
        self.sock.send(content(size))

    def receive(self):
        data = self.sock.recv(65535)
        return len(data) if data == content(len(data)) else None


class Icmp6:
    REQUEST, REPLY = 128, 129

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self.sock.connect((address, 0))

    def send(self, size):
        # The kernel fills in the checksum.
        self.sock.send(struct.pack("!BBHHH", self.REQUEST, 0, 0, 4711, size) + content(size))

    def receive(self):
        data = self.sock.recv(65535)
        kind, _, _, ident, size = struct.unpack("!BBHHH", data[:8])
        return size if (kind, ident) == (self.REPLY, 4711) and data[8:] == content(size) else None


def missing_of(probe, sizes):
    """Sizes without an answer; asked again, since the first large packets only teach the path MTU."""
    missing = set(sizes)
    for _ in range(ROUNDS):
        todo = sorted(missing)
        pending = 0
        while todo or pending > 0:
            try:
                while todo and pending < WINDOW:
                    pending += 1
                    probe.send(todo.pop(0))
                probe.sock.settimeout(PATIENCE)
                missing.discard(probe.receive())
                pending -= 1
            except TimeoutError:
                pending = 0
            except OSError:
                pass  # an ICMP error for an earlier one
        if not missing:
            break
    return sorted(missing)


def main():
    what, address, *numbers = sys.argv[1:]
    numbers = [int(number) for number in numbers]
    if what == "serve":
        serve(address, *numbers)
    if what == "udp":
        port, first, last = numbers
        probe = Udp(address, port)
    else:
        first, last = numbers
        probe = Icmp6(address)
    ranges = []
    for size in missing_of(probe, range(first, last + 1)):
        if ranges and ranges[-1][1] == size - 1:
            ranges[-1][1] = size
        else:
            ranges.append([size, size])
    text = ",".join(f"{a}-{b}" for a, b in ranges)
    print(f"not answered: {text}" if text else "all answered")


main()
