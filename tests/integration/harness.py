"""A mounted store of its own for each test, real CAs beside it, and what tests ask of them."""

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time
import unittest

LIBC = ctypes.CDLL(None, use_errno=True)
BIN = pathlib.Path(os.environ["PKIFS_BIN"])
LAB = pathlib.Path(__file__).resolve().parent.parent / "lab"
KILLER = BIN.parent / "tests/killer"
# Memory is no measure under sanitizers, and LeakSanitizer does not work under a tracer.
SANITIZED = b"__asan_init" in (BIN / "pkifsd").read_bytes()
# Sanitized programs are slower; nothing here measures, so limits are wide.
PATIENCE = float(os.environ.get("PATIENCE", 120 if SANITIZED else 30))
# The long runs: percent of what the tests with label `full` do.
SHARE = float(os.environ.get("SHARE", 10))
# Seconds that readers in a loop leave between two rounds: a slow machine is for others too.
PAUSE = float(os.environ.get("PAUSE", 0))
PORTS = range(10000, 30000)
NOBODY, DAEMON, GAMES = 65534, 1, 5  # users that every system has
LOOKUP, OPEN, READ, WRITE = 1, 14, 15, 16  # FUSE's requests, as linux/fuse.h numbers them
# The daemon's processes beside the supervisor.
ROLES = ("store", "keys", "publisher", "enroll")


def many(number):
    """How many of the full NUMBER this run does; one at least."""
    return max(1, round(number * SHARE / 100))


def some_of(things, number):
    """All of them in the full run, else as many as `many(NUMBER)` says, from end to end."""
    count = len(things) if SHARE >= 100 else min(len(things), many(number))
    return [things[(2 * i + 1) * len(things) // (2 * count)] for i in range(count)]


needs_root = unittest.skipUnless(os.geteuid() == 0, "needs other users")


def free_port():
    """One that nobody listens at. It is below those that the kernel gives to connections, and all
    tests that run now count in one file: none of them gets it too before its server is there."""
    with open(f"/tmp/pkifs-test-ports-{os.geteuid()}", "a+", encoding="ascii") as counter:
        fcntl.flock(counter, fcntl.LOCK_EX)
        counter.seek(0)
        port = int(counter.read() or random.choice(PORTS))
        while True:
            port = port + 1 if port + 1 in PORTS else PORTS.start
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                break
        counter.truncate(0)
        counter.write(str(port))
        return port


def free_ports(number):
    """As many different ones."""
    return [free_port() for _ in range(number)]


def until(condition, seconds=PATIENCE):
    """Waits until CONDITION() is true; false after SECONDS."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


def run(*arguments, **options):
    """A command's result, with its output as text."""
    options.setdefault("timeout", 2 * PATIENCE)
    return subprocess.run([str(a) for a in arguments], text=True, capture_output=True, **options)


def shell(command, **options):
    return run("bash", "-c", command, **options)


def call(name, *arguments):
    """A function of the C library: what it returns, or its error raised."""
    result = getattr(LIBC, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def attempt(act, *arguments):
    """What ACT returns; the negative errno where it is refused."""
    try:
        return act(*arguments)
    except OSError as error:
        return -error.errno


@functools.cache
def rsa_key(_number):
    """Making one takes longer than most of what is done with it."""
    done = run("openssl", "genpkey", "-quiet", "-algorithm", *RSA_KEY)
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_pairs(folder, keys, certificates=1):
    """KEYS keys and some self-signed CERTIFICATES of each, as (key, certificate) in PEM."""
    pairs = []
    for i in range(keys):
        key = folder / f"key{i}"
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", key)
        for j in range(certificates):
            done = run("openssl", "req", "-x509", "-key", key, "-days", "9", "-subj",
                       f"/CN=version {i * certificates + j}")
            assert done.returncode == 0, done.stderr
            pairs.append((key.read_text(), done.stdout))
    return pairs


@contextlib.contextmanager
def watched(path, *events, include="."):
    """An inotifywait on PATH that has begun to watch, and ends at the first of EVENTS."""
    with subprocess.Popen(["inotifywait", "-q", "-e", ",".join(events), "--include", include, path],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as watcher:
        fds = pathlib.Path(f"/proc/{watcher.pid}/fdinfo")

        def has_begun():
            with contextlib.suppress(OSError):  # a descriptor that is just closed
                return any("inotify wd" in (fds / fd).read_text() for fd in os.listdir(fds))
        try:
            if not until(has_begun):
                raise AssertionError(f"{path} is not watched")
            yield watcher
        finally:
            watcher.kill()


NEW_MOUNTS, NEW_USERS = 0x20000, 0x10000000  # clone(2)


def as_user(uid, act, namespaces=0, mapped=1):
    """
    What ACT() returns (something JSON knows) in a process of user UID with no groups. With
    NAMESPACES of its own it is their root, who is UID outside, as MAPPED numbers are from there.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            if namespaces:
                if LIBC.unshare(namespaces) < 0:
                    raise OSError(ctypes.get_errno(), "unshare")
                os.kill(os.getpid(), signal.SIGSTOP)  # until it is mapped
                os.setresgid(0, 0, 0)
                os.setresuid(0, 0, 0)
            os.write(theirs, json.dumps(act()).encode())
        except BaseException as error:  # whatever it is, the parent tells of it
            os.write(theirs, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    if namespaces and os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1]):
        for kind in ("uid", "gid"):
            pathlib.Path(f"/proc/{child}/{kind}_map").write_text(f"0 {uid} {mapped}")
        os.kill(child, signal.SIGCONT)
    with open(ours) as pipe:
        said = pipe.read()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    return json.loads(said)


class Mount:
    """A pkifsd in the foreground on a fresh folder."""

    under = ()  # a command that runs the daemon, and has its process id
    programs = BIN  # where pkifsd is, with the others beside it

    def __init__(self, folder, *options):
        self.folder = pathlib.Path(folder)
        self.point = self.folder / "pki"
        self.point.mkdir(exist_ok=True)
        self.options = options
        self.conf = None  # its configuration: a file, or a folder with conf.d in it
        self.environment = {}  # what is added to the daemon's
        self.daemon = None
        self.log = self.folder / "log"

    def spawn(self):
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                [*self.under, self.programs / "pkifsd", "-f", "-s", self.folder / "store.db",
                 "-o", f"store-key={self.folder / 'store.key'}",
                 *(["-c", self.conf] if self.conf else []),
                 *(["-o", "privilege-separation=no"] if os.geteuid() == 0 else []),
                 *[word for option in self.options for word in ("-o", option)],
                 self.point], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **self.environment})

    def start(self, expect=True):
        self.spawn()
        ready = until(lambda: self.daemon.poll() is not None or self.is_mounted())
        if expect and (not ready or self.daemon.poll() is not None):
            raise AssertionError("the daemon did not start: " + self.log.read_text())
        return self

    def by_nobody(self):
        """To be started by an ordinary user, with /dev/fuse, in a place that only he can see; a
        command in front of what he runs there."""
        for path in (self.folder, self.point):
            os.chown(path, NOBODY, NOBODY)
        device = self.folder / "fuse"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(10, 229))
        os.chmod(device, 0o666)
        user = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"
        self.under = ["unshare", "-m", "sh", "-c",
                      f"mount --bind {device} /dev/fuse && exec {user} \"$@\"", "sh"]
        self.is_mounted = lambda: self.children("store") and self.children("keys")
        self.start()
        return ["nsenter", "-t", self.daemon.pid, "-m", *user.split()]

    def refuses(self):
        """Starts a daemon that must end by itself: what it says."""
        before = self.log.stat().st_size if self.log.exists() else 0
        self.start(expect=False)
        code = self.daemon.wait(PATIENCE)
        self.daemon = None
        said = self.log.read_bytes()[before:].decode(errors="replace")
        if code != 1:
            raise AssertionError(f"exit code {code}, not 1: {said}")
        return said

    def is_mounted(self):
        with open("/proc/self/mountinfo") as table:
            mounted = any(line.split()[4] == str(self.point) for line in table)
        with contextlib.suppress(OSError):
            return mounted and (self.point / "README").exists()
        return False

    def stop(self, how=signal.SIGTERM):
        """The exit code."""
        if self.daemon is None:
            return None
        self.daemon.send_signal(how)
        try:
            code = self.daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            code = self.daemon.wait()
        self.daemon = None
        subprocess.run(["fusermount3", "-uzq", self.point], stderr=subprocess.DEVNULL)
        return code

    def children(self, role):
        """Pids of the daemon's processes: store (not its successor, which waits), keys, ..."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                name, stat = (entry / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
                if int(stat.split()[1]) != self.daemon.pid or stat.split()[0] == "Z":
                    continue
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if (name == "pkifsd-store" if role == "store" else
                        role.encode() in words or b"--" + role.encode() in words or
                        words[0] == b"pkifs-" + role.encode()):
                    found.append(int(entry.name))
        return found

    def successors(self):
        """Pids of stores that wait for the death of the one that serves."""
        serving = self.children("store")
        return [pid for pid in self.children("--store") if pid not in serving]

    def kill(self, role, how=signal.SIGKILL):
        for pid in self.children(role):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)

    @contextlib.contextmanager
    def killed_at(self, role, caller, opcode):
        """
        A process of ROLE is killed when the store has taken a request OPCODE (linux/fuse.h) of
        the process CALLER, which makes it within, and has done nothing about it yet.
        """
        if not KILLER.exists() or os.geteuid() != 0:
            raise unittest.SkipTest("only root can trace a store, on x86_64")
        if not until(lambda: self.children(role) and self.children("store")):
            raise AssertionError(f"there is no process {role}")
        store, victim = self.children("store")[0], self.children(role)[0]
        with subprocess.Popen([KILLER, str(store), str(victim), str(caller), str(opcode)],
                              stdout=subprocess.PIPE) as killer:
            try:
                if killer.stdout.readline() != b"ready\n":
                    raise AssertionError(f"{role} cannot be killed")
                yield
                # a process that is being taken apart is still there for a while
                if killer.wait(PATIENCE) != 0 or not until(
                        lambda: victim not in self.children(role)):
                    raise AssertionError(f"{role} was not killed")
            finally:
                killer.kill()

    def kill_all(self):
        """SIGKILL to every process of the daemon at once; what is mounted is detached."""
        victims = [self.daemon.pid] + [pid for role in (*ROLES, "ipsec")
                                       for pid in self.children(role)]
        random.shuffle(victims)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.stop(signal.SIGKILL)

    # Files, by their path below the mount.
    def read(self, path):
        return (self.point / path).read_text()

    def write(self, path, text):
        try:
            with open(self.point / path, "w") as file:
                file.write(text)
        except OSError as error:
            with contextlib.suppress(OSError):
                error.add_note(os.getxattr(self.point / path, "user.pkifs.error").decode())
            raise

    def status(self, path):
        """`status` of an object as a dictionary."""
        pairs = (line.split(" =", 1) for line in self.read(f"{path}/status").splitlines())
        return {key: value.strip() for key, value in pairs}

    def wait(self, path):
        result = run("timeout", 4 * PATIENCE, "cat", self.point / path / "wait",
                     timeout=5 * PATIENCE)
        return result.stdout.strip()

    def ends(self, path):
        """Whether the request of PATH comes to its end, with all its tries."""
        return until(lambda: self.status(path)["request"] not in ("queued", "running", "waiting"))

    def request(self, path, text):
        self.write(f"{path}/request", text if text.endswith("\n") else text + "\n")
        return self.wait(path)

    def self_signed(self, name="www"):
        """A certificate id with a certificate: its folder."""
        folder = self.point / "local" / name
        folder.mkdir()
        self.write(f"local/{name}/config", f"subject = CN={name}\nkey-type = ecdsa\n")
        if self.request(f"local/{name}", "generate-self-signed") != "ok":
            raise AssertionError(self.read(f"local/{name}/status"))
        return folder


class Clock:
    """The programs of a test with a clock of its own, which is set while they run."""

    def __init__(self, test):
        self.programs = test.folder / "clock"
        shutil.copytree(BIN.parent / "tests/clock", self.programs)
        self.file = self.programs / "clock"
        self.set(0)

    def set(self, seconds, synchronised=False):
        """It runs SECONDS before the true one."""
        self.before = int(seconds)
        with open(self.file, "r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("=qq", self.before, synchronised))

    def now(self):
        return time.time() + self.before

    def step_to(self, when, **options):
        """It shows WHEN, in Unix seconds."""
        self.set(when - time.time() + 1, **options)


class Test(unittest.TestCase):
    """A test with a folder of its own; `mount()` gives a started store."""

    options = ()

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pkifs-test-"))
        self.folder.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.mounts = []

    def tearDown(self):
        for mount in self.mounts:
            code = mount.stop()
            log = mount.log.read_text(errors="replace") if mount.log.exists() else ""
            if "Sanitizer" in log or "runtime error" in log or code not in (0, None):
                self.fail(f"exit code {code}; the log ends:\n{log[-8000:]}")

    def mount(self, *options, start=True, clock=None):
        folder = self.folder / f"m{len(self.mounts)}"
        folder.mkdir()
        mount = Mount(folder, *self.options, *options)
        if clock:
            mount.programs = clock.programs
        self.mounts.append(mount)
        return mount.start() if start else mount

    def fails_to_start(self, mount, words):
        self.assertIn(words, mount.refuses())

    def rsa_key(self):
        """An RSA key in PEM, each time another one; the next test gets the same."""
        self.rsa_keys = getattr(self, "rsa_keys", 0) + 1
        return rsa_key(self.rsa_keys)

    def server(self, script, *options, environment=None):
        """A server of tests/lab in a folder of its own: (folder, port, URL)."""
        port = free_port()
        folder = self.folder / f"{script}-{port}"
        done = run(LAB / script, folder, port, *options,
                   env={**os.environ, "PKIFS_BIN": str(BIN), **(environment or {})})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.addCleanup(run, LAB / script, "stop", folder)
        return folder, port, done.stdout.split()[-1]

    def trusted_profile(self, mount, url, name="corp", more=""):
        os.mkdir(mount.point / "ca" / name)
        mount.write(f"ca/{name}/config",
                    f"enrollment-url = {url}\nenrollment-retry-interval = 0\n{more}")
        self.assertEqual(mount.request(f"ca/{name}", "enroll"), "ok")
        mount.write(f"ca/{name}/confirm", "yes\n")
        self.assertEqual(mount.status(f"ca/{name}")["state"], "trusted")

    def certificate_id(self, mount, name="www", profile="corp", more=""):
        os.mkdir(mount.point / "local" / name)
        mount.write(f"local/{name}/config",
                    f"ca-profile = {profile}\nsubject = CN={name}.example.net,O=Example\n"
                    f"domain-name = {name}.example.net\nchallenge-password = secret\n{more}")


    def ready_key(self, mount, name, *algorithm):
        """Writes a key for certificate id NAME, so that none has to be generated."""
        file = self.folder / "-".join(("key", *algorithm))
        if not file.exists():
            done = run("openssl", "genpkey", "-quiet", "-out", file, "-algorithm", *algorithm)
            self.assertEqual(done.returncode, 0, done.stderr)
        mount.write(f"local/{name}/key.pem", file.read_text())


RSA_KEY = ("RSA", "-pkeyopt", "rsa_keygen_bits:2048")
EC_KEY = ("EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def main():
    unittest.main(verbosity=2)
