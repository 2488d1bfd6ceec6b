"""What a power cut may leave: a program's changes to a folder, recorded, and each disk they allow.

`recorder(log)` is the command that the program is run by; `changes(log, folder)` reads what it
recorded; `Disk` is the folder after the first so many changes, and its images are
  all   as if every write had reached the disk (what kill -9 leaves),
  none  with what fsync and fdatasync promised, and nothing else,
  some  with any part of the rest: sectors of 512 bytes, sizes and names, by a random number.
Names are as on ext4 and xfs: ordered, in the journal, which a sync of any file commits. What is
written through shared memory is not seen."""

import dataclasses
import os
import pathlib
import re

SECTOR = 512
CALLS = ("open,openat,creat,write,pwrite64,writev,pwritev,ftruncate,fallocate,fsync,fdatasync,"
         "unlink,unlinkat,rename,renameat,renameat2,mkdir,mkdirat,rmdir,lseek,link,linkat,"
         "copy_file_range,sendfile")
UNKNOWN = {"fallocate", "link", "linkat", "copy_file_range", "sendfile", "pwritev"}


def recorder(log):
    return ["strace", "-D", "-f", "--seccomp-bpf", "-y", "-xx", "-qq", "-ttt", "-s", "4194304",
            "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(log)]


@dataclasses.dataclass
class Change:
    """One change: WHAT is create, write, size, sync, remove, rename or folder."""
    time: float
    what: str
    path: str
    offset: int = 0
    data: bytes = b""
    to: str = ""


def unquoted(text):
    return bytes.fromhex(text.replace("\\x", ""))


def whole_lines(log):
    """(pid, time, call) of each line; a call that others interrupted is put together."""
    begun = {}
    with open(log, errors="surrogateescape") as lines:
        for line in lines:
            pid, time, call = line.rstrip("\n").split(None, 2)
            if call.endswith("<unfinished ...>"):
                begun[pid] = (time, call.removesuffix("<unfinished ...>").rstrip())
                continue
            resumed = re.match(r"<\.\.\. \w+ resumed>\s?(.*)", call)
            if resumed:
                time, first = begun.pop(pid)
                call = first + resumed.group(1)
            yield pid, float(time), call


class Reader:
    """Makes changes out of a recorder's lines."""

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.positions = {}

    def inside(self, path):
        return path is not None and (path == self.folder or path.startswith(self.folder + "/"))

    @staticmethod
    def descriptor(text):
        """(number, path) of `5<\\x2f…>`, else (None, None)."""
        found = re.match(r"(\d+)<([^>]*)>", text)
        if not found:
            return None, None
        path = found.group(2)
        return found.group(1), (unquoted(path).decode(errors="surrogateescape")
                                if path.startswith("\\x") else path)

    def names(self, arguments):
        """The paths among ARGUMENTS, those beside a folder's descriptor made whole."""
        found, base = [], None
        for word in re.split(r", ", arguments):
            number, path = self.descriptor(word)
            if number:
                base = path
            elif word.startswith('"'):
                name = unquoted(word.strip('"')).decode(errors="surrogateescape")
                found.append(os.path.join(base, name) if base else name)
        return found

    def change(self, pid, time, line):
        found = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)(<[^>]*>)?", line)
        if not found or int(found.group(3)) < 0:
            return
        call, arguments, result = found.group(1), found.group(2), int(found.group(3))
        if call in ("open", "openat", "creat"):
            yield from self.opened(pid, time, arguments, self.descriptor(
                found.group(3) + (found.group(4) or "")))
        elif call in ("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat") or "rename" in call:
            yield from self.named(time, call, self.names(arguments))
        else:
            number, path = self.descriptor(arguments)
            if self.inside(path):
                yield from self.written(pid, time, call, arguments, result, number, path)

    def opened(self, pid, time, arguments, descriptor):
        number, path = descriptor
        if not self.inside(path) or "O_DIRECTORY" in arguments:
            return
        self.positions[pid, number] = 0
        if "O_CREAT" in arguments:
            yield Change(time, "create", path)
        if "O_TRUNC" in arguments:
            yield Change(time, "size", path)

    def named(self, time, call, names):
        if not names or not all(self.inside(name) for name in names):
            return
        if "rename" in call:
            yield Change(time, "rename", names[0], to=names[1])
        else:
            yield Change(time, "folder" if "mkdir" in call else "remove", names[0])

    def written(self, pid, time, call, arguments, result, number, path):
        if call in UNKNOWN:
            raise NotImplementedError(f"{call} of {path}")
        last = arguments.rsplit(", ", 1)[-1]
        if call in ("write", "writev", "pwrite64"):
            data = b"".join(unquoted(text) for text in
                            re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments))[:result]
            assert len(data) == result, line_is_cut(path)
            at = int(last) if call == "pwrite64" else self.positions.get((pid, number), 0)
            if call != "pwrite64":
                self.positions[pid, number] = at + result
            yield Change(time, "write", path, at, data)
        elif call == "lseek":
            self.positions[pid, number] = result
        elif call == "ftruncate":
            yield Change(time, "size", path, int(last))
        else:
            yield Change(time, "sync", path)


def line_is_cut(path):
    return f"a write to {path} was not recorded whole"


def changes(log, folder):
    reader = Reader(folder)
    return [change for line in whole_lines(log) for change in reader.change(*line)]


class File:
    def __init__(self):
        self.durable, self.pending, self.synced = b"", [], False

    @staticmethod
    def after(content, change):
        if change.what == "size":
            return content[:change.offset].ljust(change.offset, b"\0")
        content = content.ljust(change.offset, b"\0")
        end = change.offset + len(change.data)
        return content[:change.offset] + change.data + content[end:]

    def sync(self):
        for change in self.pending:
            self.durable = self.after(self.durable, change)
        self.pending, self.synced = [], True

    def content(self, how, random):
        content = self.durable
        for change in self.pending if how != "none" else ():
            for part in (change,) if how == "all" else self.parts(change, random):
                content = self.after(content, part)
        return content

    @staticmethod
    def parts(change, random):
        """What of CHANGE reached the disk."""
        if change.what == "size":
            return [change] if random.random() < 0.5 else []
        return [dataclasses.replace(change, offset=change.offset + at,
                                    data=change.data[at:at + SECTOR])
                for at in range(0, len(change.data), SECTOR) if random.random() < 0.6]


class Disk:
    """The folder as it is while its changes come one by one."""

    def __init__(self, folder):
        self.folder = pathlib.Path(os.path.realpath(folder))
        self.names, self.durable_names = {}, {}
        self.folders = set()

    def change(self, change):
        if change.what == "create":
            self.names.setdefault(change.path, File())
        elif change.what in ("write", "size"):
            self.names.setdefault(change.path, File()).pending.append(change)
        elif change.what == "sync":
            if change.path in self.names:
                self.names[change.path].sync()
            self.durable_names = dict(self.names)
        elif change.what == "remove":
            self.names.pop(change.path, None)
            self.folders.discard(change.path)
        elif change.what == "rename":
            if change.path in self.names:
                self.names[change.to] = self.names.pop(change.path)
        else:
            self.folders.add(change.path)

    def image(self, how, random=None):
        """What is left: {path below the folder: bytes, or None for a folder}."""
        now = how == "all" or (how == "some" and random.random() < 0.5)
        left = {path: None for path in self.folders}
        for path, file in (self.names if now else self.durable_names).items():
            left[path] = file.content(how, random)
        return {os.path.relpath(path, self.folder): content for path, content in left.items()}


def put(image, target):
    """Makes the folder TARGET with what IMAGE says."""
    pathlib.Path(target).mkdir()
    for path, content in sorted(image.items()):
        place = pathlib.Path(target) / path
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            place.chmod(0o600)
