#!/usr/bin/python3
"""rogue.py PORT BACKEND [CERTIFICATE KEY]: a server gone bad in front of a good one.

http://127.0.0.1:PORT/MODE[=COUNT]/REST asks BACKEND for /REST, and then does to the client what
MODE says; with COUNT only for the first COUNT requests, later ones get the truth. MODES below is
the list. With a certificate and its key it speaks TLS. Each request is a line on stderr.
"""

import functools
import gzip
import http.server
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.error
import urllib.request

PASSED_ON = ("content-type", "accept")
DER = "application/octet-stream"


class Truth:
    """What the good server answered."""

    def __init__(self, status, kind, body):
        self.status, self.kind, self.body = status, kind, body


def ask(backend, path, request, body):
    headers = {name: value for name, value in request.headers.items()
               if name.lower() in PASSED_ON}
    question = urllib.request.Request(backend + path, body, headers, method=request.command)
    try:
        answer = urllib.request.urlopen(question, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    return Truth(answer.status, answer.headers.get("Content-Type", ""), answer.read())


# --- the modes: each gets the request and the good server's answer ---

def dead(request, _):
    """Takes the request and never answers."""
    request.connection.recv(1)


def slow(request, truth):
    """The true answer at 25 bytes a second."""
    drip(request, truth, 0.04)


def trickle(request, truth):
    """The true answer at 4 bytes a second."""
    drip(request, truth, 0.25)


def drip(request, truth, pause):
    request.head(truth.status, truth.kind, len(truth.body))
    for byte in truth.body:
        request.write(bytes([byte]))
        time.sleep(pause)


def huge(request, _):
    """Bytes without a length and without an end."""
    request.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0\x84\x7f\xff\xff\xff")
    while True:
        request.write(bytes(1 << 16))


@functools.cache
def small_and_large():
    return gzip.compress(bytes(64 << 20))


def bomb(request, _):
    """64 kB that would become 64 MB."""
    packed = small_and_large()
    request.head(200, DER, len(packed), "Content-Encoding: gzip")
    request.write(packed)


def long(request, _):
    """Promises 4 GB."""
    request.head(200, DER, (1 << 32) + 1)
    request.write(b"0\x84\xff\xff\xff\xff")


def page(request, _):
    """A login page."""
    request.answer(200, "text/html", b"<html><body>Please log in</body></html>")


def half(request, truth):
    """Promises all of the true answer and sends half."""
    request.head(truth.status, truth.kind, len(truth.body))
    request.write(truth.body[:len(truth.body) // 2])


def cut(request, truth):
    """Half of the true answer, as if that were all."""
    request.answer(truth.status, truth.kind, truth.body[:len(truth.body) // 2])


def flip(request, truth):
    """One bit of the true answer turned, in its last byte."""
    body = bytearray(truth.body)
    body[-1] ^= 1
    request.answer(truth.status, truth.kind, bytes(body))


def empty(request, _):
    """200 and nothing."""
    request.answer(200, DER, b"")


def fail(request, _):
    """500."""
    request.answer(500, "text/plain", b"out of order\n")


def busy(request, _):
    """503, and when to come again."""
    request.answer(503, "text/plain", b"", "Retry-After: 1")


def loop(request, _):
    """Redirects to itself."""
    request.answer(302, "text/plain", b"", "Location: " + request.path)


def file(request, _):
    """Redirects to a file of the client's."""
    request.answer(302, "text/plain", b"", "Location: file:///etc/passwd")


def ldap(request, _):
    """Redirects to another protocol."""
    request.answer(302, "text/plain", b"", "Location: ldap://127.0.0.1:9/")


def away(request, _):
    """Redirects to another server."""
    request.answer(307, "text/plain", b"", "Location: http://127.0.0.1:9/scep")


def garbage(request, _):
    """What is no HTTP at all."""
    request.write(b"\x16\x03\x01" + bytes(range(256)) * 4)


def chunk(request, _):
    """A chunk whose size is no number."""
    request.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\nabc\r\n")


def header(request, _):
    """A header line of 1 MB."""
    request.write(b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n")


def headers(request, _):
    """Headers without an end."""
    request.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.write(b"X-Header: of no use at all\r\n" * 1000)


def reset(request, _):
    """Resets the connection."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for end in (request.rfile, request.wfile, request.connection):
        end.close()


def hang_up(_request, _truth):
    """Closes the connection without a word."""


def replay(request, truth):
    """The first answer to each kind of question, for ever."""
    kept = request.server.kept.setdefault((request.command, request.rest), truth)
    request.answer(kept.status, kept.kind, kept.body)


MODES = {mode.__name__.replace("_", "-"): mode for mode in (
    dead, slow, trickle, huge, bomb, long, page, half, cut, flip, empty, fail, busy, loop, file,
    ldap, away, garbage, chunk, header, headers, reset, hang_up, replay)}


class Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def write(self, data):
        self.wfile.write(data)

    def head(self, status, kind, length, *more):
        lines = (f"HTTP/1.1 {status} Rogue", f"Content-Type: {kind}",
                 f"Content-Length: {length}", "Connection: close", *more, "", "")
        self.write("\r\n".join(lines).encode())

    def answer(self, status, kind, body, *more):
        self.head(status, kind, len(body), *more)
        self.write(body)

    def is_truthful(self, word, count):
        """Whether this mode's time is over."""
        with self.server.lock:
            self.server.seen[word] = self.server.seen.get(word, 0) + 1
            return count and self.server.seen[word] > int(count)

    def serve(self):
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        word, _, self.rest = self.path[1:].partition("/")
        mode, _, count = word.partition("=")
        truth = ask(self.server.backend, "/" + self.rest, self, body)
        if mode == "truth" or self.is_truthful(word, count):
            self.answer(truth.status, truth.kind, truth.body)
        else:
            MODES[mode](self, truth)

    do_GET = do_POST = serve


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port, backend, *tls):
        super().__init__(("127.0.0.1", port), Request)
        self.backend, self.seen, self.kept, self.lock = backend, {}, {}, threading.Lock()
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request, client_address):
        """The client hung up, as it should."""


Server(int(sys.argv[1]), sys.argv[2].rstrip("/"), *sys.argv[3:]).serve_forever()
