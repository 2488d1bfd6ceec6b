"""Two hosts on this kernel (tests/lab/two-hosts): sockets on either, what passes between them, and
their XFRM tables by tests/lab/xfrm-lab. For tests that run in a guest of uml-run."""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
import unittest

from harness import BIN, LAB, LIBC, SANITIZED

CLONE_NEWNET = 0x40000000
IN_GUEST = "IN_GUEST" in os.environ
MARK = b"seen-in-clear"  # what traffic says, and nobody on the wire may read
NEIGHBOURS = range(133, 137)  # ICMPv6's discovery is no traffic, nor MLD's (header 0)
ADDRESSES = {"left": ("10.1.0.1", "192.0.2.1", "fd00:1::1", "2001:db8::1"),
             "right": ("10.2.0.1", "192.0.2.2", "fd00:2::1", "2001:db8::2")}


@contextlib.contextmanager
def on(host):
    """This thread is on that host."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{host}", os.O_RDONLY)
    try:
        assert LIBC.setns(there, CLONE_NEWNET) == 0
        yield
    finally:
        LIBC.setns(here, CLONE_NEWNET)
        os.close(here)
        os.close(there)


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Tables:
    """xfrm-lab on a host: each call is a line of it."""

    def __init__(self, host):
        self.host = host
        with on(host):
            self.process = subprocess.Popen([BIN.parent / "tests/xfrm-lab"], text=True, bufsize=1,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def try_(self, *words):
        """The lines of the answer, and why it failed, or None."""
        print(*words, file=self.process.stdin)
        lines = []
        while True:
            line = self.process.stdout.readline().rstrip("\n")
            if line == "ok":
                return lines, None
            if line.startswith("failed: ") or not line:
                return lines, line[8:]
            lines.append(line)

    def __call__(self, *words):
        lines, why = self.try_(*words)
        assert why is None, f"{self.host}: {words}: {why}"
        return lines

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Wire:
    """All that either host puts on the cable. (What arrives is seen once more behind its ESP.)"""

    OUTGOING = 4

    def __init__(self, *interfaces):
        self.sockets = []
        for host in ADDRESSES:
            for interface in interfaces:
                with on(host):
                    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                    tap.bind((interface, 0))
                tap.setblocking(False)
                self.sockets.append(tap)

    def packets(self):
        """The IP packets since the last call: (protocol, destination's port, bytes)."""
        found = []
        for tap in self.sockets:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, where = tap.recvfrom(65536)
                    kind, packet = struct.unpack_from("!H", frame, 12)[0], frame[14:]
                    if where[2] != self.OUTGOING:
                        continue
                    if kind == 0x800:
                        found.append((packet[9], struct.unpack_from("!H", packet, 22)[0], packet))
                    elif kind == 0x86dd and packet[6] != 0 and not (
                            packet[6] == 58 and packet[40] in NEIGHBOURS):
                        found.append((packet[6], struct.unpack_from("!H", packet, 42)[0], packet))
        return found

    def close(self):
        for tap in self.sockets:
            tap.close()


def talk(source, target, mark=0, size=20000, patience=5):
    """A TCP connection from the left to the right says SIZE bytes, which come back. Whether they
    did."""
    said = (MARK * (size // len(MARK) + 1))[:size]
    with on("right"):
        server = socket.create_server((target, 0), family=family(target))
    server.settimeout(patience)

    def echo():
        with contextlib.suppress(OSError), server.accept()[0] as peer:
            peer.settimeout(patience)
            while block := peer.recv(65536):
                peer.sendall(block)
    thread = threading.Thread(target=echo)
    thread.start()
    heard = b""
    with on("left"):
        client = socket.socket(family(target), socket.SOCK_STREAM)
    with server, client, contextlib.suppress(OSError):
        client.settimeout(patience)
        if mark:
            client.setsockopt(socket.SOL_SOCKET, 36, mark)  # SO_MARK
        client.bind((source, 0))
        client.connect((target, server.getsockname()[1]))
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        while block := client.recv(65536):
            heard += block
    thread.join()
    return heard == said


def ping(source, target, mark=0, patience=2):
    """An echo request of the left, answered by the right."""
    six = ":" in target
    with on("left"):
        pinger = socket.socket(family(target), socket.SOCK_RAW,
                               socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
    with pinger:
        pinger.settimeout(patience)
        if mark:
            pinger.setsockopt(socket.SOL_SOCKET, 36, mark)
        pinger.bind((source, 0))
        body = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 4711, 1) + MARK + b"."
        total = sum(struct.unpack(f"!{len(body) // 2}H", body))
        total = (total >> 16) + (total & 0xffff)
        if not six:
            body = body[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xffff) + body[4:]
        with contextlib.suppress(OSError):
            pinger.sendto(body, (target, 0))
            while True:
                answer = pinger.recv(2048)[0 if six else 20:]
                if answer[0] == (129 if six else 0) and MARK in answer:
                    return True
    return False


class Stream:
    """Numbered UDP packets, one each PACE seconds in either direction all the time: those that did
    not arrive."""

    def __init__(self, left="10.1.0.1", right="10.2.0.1", pace=0.005):
        self.ends, self.pace = {"left": left, "right": right}, pace
        self.sent = dict.fromkeys(ADDRESSES, 0)
        self.heard = {host: set() for host in ADDRESSES}

    def __enter__(self):
        self.sockets = {}
        for host, address in self.ends.items():
            with on(host):
                self.sockets[host] = socket.socket(family(address), socket.SOCK_DGRAM)
            self.sockets[host].bind((address, 7777))
            self.sockets[host].setblocking(False)
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def hear(self):
        for host, end in self.sockets.items():
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.heard[host].add(int(end.recv(2048)[len(MARK):]))

    def run(self):
        while not self.end.wait(self.pace):
            for host, end in self.sockets.items():
                other = "right" if host == "left" else "left"
                self.sent[host] += 1
                with contextlib.suppress(OSError):  # blocked: it is lost
                    end.sendto(MARK + b"%d" % self.sent[host], (self.ends[other], 7777))
            self.hear()

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()
        time.sleep(0.2)
        self.hear()
        for end in self.sockets.values():
            end.close()

    def lost(self):
        """Towards the right, towards the left: the numbers."""
        return tuple(sorted(set(range(1, self.sent[source] + 1)) - self.heard[target])
                     for source, target in (("left", "right"), ("right", "left")))


@unittest.skipUnless(os.geteuid() == 0 and shutil.which("linux.uml"), "needs user-mode-linux, root")
@unittest.skipIf(SANITIZED or IN_GUEST, "a guest has not the address space")
class Guest(unittest.TestCase):
    """Has SCRIPT's tests (SECONDS at most) run in a guest of uml-run, where IN_GUEST is."""

    script = seconds = None
    variables = ()  # of the environment, that count there, too

    def test_in_a_guest(self):
        here = LAB.parent / "integration"
        done = subprocess.run(
            [LAB / "uml-run", "-t", str(self.seconds), "-r", here.parent.parent, "-r", BIN.parent, "env",
             "IN_GUEST=1", f"PKIFS_BIN={BIN}", "PATIENCE=60",
             *(f"{name}={os.environ[name]}" for name in self.variables if name in os.environ),
             "python3", "-B", self.script,
             *os.environ.get("TESTS", "InGuest").split()],
            cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        print(done.stdout)
        self.assertEqual(done.returncode, 0)


@unittest.skipUnless(IN_GUEST, "changes the XFRM tables: runs in a guest")
class TwoHosts(unittest.TestCase):
    """The hosts, their tables, and the wire between them, for a class of tests."""

    nat = False  # whether there is also a way by a router

    @classmethod
    def setUpClass(cls):
        subprocess.run([LAB / "two-hosts", *(["--nat"] if cls.nat else [])], check=True)
        cls.left, cls.right = Tables("left"), Tables("right")
        cls.wire = Wire("wan0", *(["wan1"] if cls.nat else []))

    @classmethod
    def tearDownClass(cls):
        cls.left.close()
        cls.right.close()
        cls.wire.close()
