"""The store's file, changed while nobody has it open by one who knows how: with SQLite, and with the
checksums of its pages."""

import contextlib
import pathlib
import sqlite3
import struct

PAGE = 4096


def summed(page, number):
    """The page with its checksum at the end: FNV-1a of its words and its NUMBER."""
    checksum = 14695981039346656037 ^ number
    for word in struct.unpack("<511Q", page[:-8]):
        checksum = (checksum ^ word) * 1099511628211 % (1 << 64)
    return page[:-8] + struct.pack("<Q", checksum)


@contextlib.contextmanager
def changing(path):
    """A connection to the store; what was changed with it has its checksums afterwards."""
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        yield store
    pages = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(b"".join(
        summed(pages[at:at + PAGE], at // PAGE + 1) for at in range(0, len(pages), PAGE)))


def sql(path, *statements):
    """The rows of the last one."""
    with changing(path) as store:
        for statement in statements:
            rows = store.execute(statement).fetchall()
    return rows
