"""HTTPS clients that ask a server again and again, and must never be refused or get nothing."""

import contextlib
import hashlib
import http.client
import multiprocessing
import select
import ssl

import readers

# How an idle connection ends that its server closed while a request was on its way.
CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError,
          ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Client:
    """
    Asks https://127.0.0.1:PORT for a PAGE; each connection is a full handshake with all checks.
    IDENTITY: file of its own key and certificate.
    """

    def __init__(self, port, anchor, page, identity=None):
        self.port, self.page = port, page
        self.context = ssl.create_default_context(cafile=anchor)
        if identity:
            self.context.load_cert_chain(identity)
        self.kept = None
        self.repeated = multiprocessing.Value("q", 0)

    def connection(self):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context,
                                                 timeout=readers.HANG)
        connection.connect()
        return connection

    def ask(self, connection, **headers):
        connection.request("GET", "/", headers=headers)
        try:
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:
            if isinstance(error, CLOSED):
                raise
            raise ValueError(f"half an answer: {error!r}") from error
        return None if (answer.status, text) == (200, self.page) else f"{answer.status}: {text}"

    def asks_anew(self):
        with contextlib.closing(self.connection()) as connection:
            return self.ask(connection, Connection="close")

    def keeps_its_connection(self):
        """As long as the server does; what is sent while it closes is sent again (RFC 9112, 9.3.1)."""
        if self.kept and (not self.kept.sock or select.select([self.kept.sock], [], [], 0)[0]):
            self.kept.close()
            self.kept = None
        if self.kept:
            with contextlib.suppress(*CLOSED):
                return self.ask(self.kept)
            self.repeated.value += 1
            self.kept.close()
        self.kept = self.connection()
        return self.ask(self.kept)

    def gets_in(self):
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            return self.asks_anew() is None
        return False

    def certificate(self):
        """SHA-256 of the certificate that a new connection gets; None where there is none yet."""
        with contextlib.suppress(OSError), contextlib.closing(self.connection()) as connection:
            return hashlib.sha256(connection.sock.getpeercert(True)).hexdigest()
        return None
