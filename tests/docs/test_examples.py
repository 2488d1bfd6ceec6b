"""
Runs the examples of README.md, of the manual pages, of docs/guides/*.md and of the README in the
mounted tree, as a reader would: on a terminal, on a mount, with a real SCEP CA (scepserver; for the
guides the one of tests/lab, which also gives its CRL) that stands for ca.example.net. Each must end with 0, and print what is shown below it.

An example is a line that begins with "$ " or "# " in a block with no language; it goes on while its
lines end with \\ or &&. What stands below it is its output, where "…" (in a manual page "...")
stands for anything, in a line of its own for any lines, and one date for another. A markdown file
and a section of a manual page have a store of their own.
"""

import contextlib
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import time
import unittest

from harness import BIN, PATIENCE, Test, main, run

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PAGES = BIN.parent / "docs"

# What stands for something else here: a pattern, and what takes its place. {folder} is the test's.
STANDS_FOR = [
    (r"http://ca\.example\.net/scep", "{url}"),
    (r"4C:0F:(…|\.\.\.)", "{fingerprint}"),
    (r"challenge-password = …", "challenge-password = secret"),
    (r"(?<![\w./~-])/(pki|etc|srv|var/lib)\b", r"{folder}/\1"),
]

# What the reader types when asked.
ANSWERS = {"[yes,no] (no) ": "yes", "challenge-password: ": "secret"}

# Not run: the beginning of a command, and why.
NOT_RUN = {
    "useradd ": "changes the machine's users; the test's pkifsd runs without them",
    "apt": "installs packages",
    "dpkg": "installs packages",
    "adduser ": "changes the machine's users",
    "usermod ": "changes the machine's users",
    "systemctl ": "there is no systemd in a test",
    "systemd-": "there is no systemd in a test",
    "nginx ": "tests/integration runs the guide's nginx",
    "haproxy ": "tests/integration runs the guide's HAProxy",
    "stunnel": "tests/integration runs the guide's stunnel",
    "chmod 755 /usr/local/sbin/haproxy-reload": "a file that the guide shows",
    "pkcs11-tool": "tests/integration lists what is lent",
    "mkdir /pki/ipsec": "tests/integration makes tunnels, in a network of their own",
    "echo up > /pki/ipsec": "the same",
    "cat /pki/ipsec": "the same",
    "grep -E '^(state|": "the same",
    "openssl x509 -in /pki/ipsec": "the same",
    "openssl s_client -connect www.example.net": "asks one of these three",
}

# Never end by themselves: they are interrupted after a moment.
ENDLESS = ("pkictl watch", "tail -f ")

# Fail, as the text says.
FAILS = ("pkictl verify peer.pem", "echo 'key-size = 5'")

# What a reader of that text has, or does, before the example.
READY = """
    pkictl ca add corp --enrollment-url {url} && pkictl ca enroll corp --yes &&
    pkictl enroll www --ca-profile corp --domain-name www.example.net --challenge-password secret"""
BEFORE = {
    "pkictl ca confirm corp": "pkictl ca unenroll corp; pkictl ca enroll corp </dev/null; true",
    "pkictl enroll www --ca-profile corp": "pkictl ca add corp --enrollment-url {url} && "
                                           "pkictl ca enroll corp --yes",
    "pkictl ca enroll corp --fingerprint \"$": "pkictl ca unenroll corp",
    "pkictl cancel www": "pkictl ca add corp --enrollment-url http://127.0.0.1:9/ && "
                         "pkictl re-enroll www --no-wait",
    "pkictl export corp --crl": "pkictl ca load corp --crl corp.crl",
    "echo 'key-size = 5'": "mkdir -p /pki/local/www",
    "tsig-keygen": "mkdir -p /etc/bind",
}
# The guides begin with a certificate that is there.
BEFORE_TEXTS = {"docs/guides/": READY}
CA_OF = {"docs/guides/": ("scep-ca-server", "ca", "-c", "secret")}

# Files that a reader may have: a CRL of the CA, and what a seller of certificates sends.
FILES = """
    mkdir -p "$FOLDER/etc" "$FOLDER/pki" && echo secret >"$FOLDER/etc/scep.challenge"
    cp "$CA.pem" ca.pem && touch index peer.pem
    openssl genpkey -genparam -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ~/ec
    printf '[ca]\\ndefault_ca=x\\n[x]\\ndatabase=index\\ndefault_md=sha256\\n' >ca.conf
    openssl ca -gencrl -config ca.conf -cert ca.pem -keyfile "$CA.key" -passin pass:x \\
        -crldays 9 -out corp.crl
    openssl req -x509 -newkey ec:$HOME/ec -nodes -keyout seller.key -out intermediates.crt -subj /CN=S
    openssl req -new -newkey ec:$HOME/ec -nodes -keyout shop.key -out shop.csr -subj /CN=shop
    openssl x509 -req -in shop.csr -CA intermediates.crt -CAkey seller.key -days 9 -out shop.crt
    cat shop.key shop.crt intermediates.crt >shop.pem"""


class Example:
    """A command and the lines that are shown below it."""

    def __init__(self, line):
        self.command = line
        self.output = []

    def add(self, line):
        if not self.output and re.search(r"(\\|&&)$", self.command):
            self.command += "\n" + line
        else:
            self.output.append(line)


def sessions(block):
    """The examples in the lines of a BLOCK; none where it is no session, or one of a program that
    prints commands itself."""
    found = []
    for line in block:
        if re.match(r"[$#] ", line):
            found.append(Example(line[2:]))
        elif found:
            found[-1].add(line)
        else:
            return []
        if found and found[0].command.startswith("packaging/"):
            return []
    return found


def of_markdown(path):
    """(title, examples) of a markdown file."""
    found, block = [], None
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            if block is None:
                block = ([], line[3:].strip())
                continue
            if not block[1]:
                found += sessions(block[0])
            block = None
        elif block is not None:
            block[0].append(line)
    return [(str(path.relative_to(SOURCE)), found)]


def of_manual(path):
    """(title, examples) of each section of a manual page that has some."""
    found, block = [], None
    for line in path.read_text().splitlines():
        if line.startswith(".Sh "):
            found.append((f"{path.name}: {line[4:].title()}", []))
        elif line.startswith(".Bd -literal"):
            block = []
        elif line == ".Ed":
            found[-1][1].extend(sessions(block))
            block = None
        elif block is not None:
            block.append(line.replace("\\&", "").replace("\\e", "\\").replace("...", "…"))
    return [(title, examples) for title, examples in found if examples]


def of_tree(mount):
    """The examples of the README in the mounted tree, which are typed there."""
    lines = [line[2:] for line in mount.read("README").splitlines()]
    return [Example(line) for line in lines if re.match(r"(mkdir|printf|echo|cat) ", line)]


def is_like(shown, printed):
    """Whether PRINTED lines are those SHOWN, with … for anything and dates for dates."""
    pattern = ""
    for line in shown:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*"
            continue
        words = re.escape(" ".join(line.split())).replace("…", ".*")
        words = re.sub(r"\d{4}\\-\d\d\\-\d\d", r"\\d{4}-\\d\\d-\\d\\d", words)
        pattern += re.sub(r"T\d\d:\d\d:\d\dZ", r"T\\d\\d:\\d\\d:\\d\\dZ", words) + "\n"
    text = "".join(" ".join(line.split()) + "\n" for line in printed)
    return re.fullmatch(pattern, text) is not None


def ca_of(title):
    """The script of the CA for a text, its files, and its options."""
    for beginning, ca in CA_OF.items():
        if title.startswith(beginning):
            return ca
    return "scep-server", "depot/ca"


class World:
    """A folder with a mount, a CA and files, in which commands are typed on a terminal."""

    def __init__(self, test, title=""):
        self.test = test
        self.folder = test.folder / f"world{len(test.worlds)}"
        test.worlds.append(self)
        home = self.folder / "home"
        home.mkdir(parents=True)
        ca, self.url = test.ca(*ca_of(title))
        pem = run("openssl", "x509", "-in", f"{ca}.pem", "-noout", "-fingerprint",
                  "-sha256").stdout
        self.fingerprint = pem.strip().split("=")[1]
        programs = self.folder / "bin"
        programs.mkdir()
        separate = "-o privilege-separation=no" if os.geteuid() == 0 else ""
        # the defaults of a machine, below the test's folder
        (programs / "pkifsd").write_text(
            f"#!/bin/sh\nexec {BIN}/pkifsd -o mount-point={self.folder}/pki "
            f"-o store={self.folder}/store.db -o store-key={self.folder}/store.key "
            f"-o log=stderr {separate} \"$@\" 2>>{self.folder}/log\n")
        (programs / "pkifsd").chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home),
            "FOLDER": str(self.folder), "CA": str(ca), "TERM": "dumb", "LANG": "C.UTF-8",
            "PKIFS_MOUNT": str(self.folder / "pki"), "fingerprint": self.fingerprint}
        test.addCleanup(self.end)
        self.must(FILES)

    def mount(self):
        self.must("pkifsd")

    def end(self):
        """Unmounts what the examples mounted, which ends their daemons."""
        with open("/proc/self/mountinfo") as table:
            points = [line.split()[4] for line in table]
        for point in points:
            if point.startswith(f"{self.folder}/"):
                run("fusermount3", "-u", point)
        log = self.folder / "log"
        text = log.read_text(errors="replace") if log.exists() else ""
        self.test.assertNotIn("Sanitizer", text)

    def must(self, command):
        done = run("bash", "-c", self.replaced(command), env=self.environment, cwd=self.environment["HOME"])
        self.test.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")

    def replaced(self, command):
        for pattern, text in STANDS_FOR:
            command = re.sub(pattern, text, command)
        for name in "folder", "url", "fingerprint":
            command = command.replace(f"{{{name}}}", str(getattr(self, name)))
        return command

    def typed(self, command, folder=None):
        """COMMAND on a terminal, questions answered: (exit code, lines)."""
        ours, theirs = pty.openpty()
        text, asked = "", 0
        end = time.monotonic() + (1 if command.startswith(ENDLESS) else 2 * PATIENCE)
        with subprocess.Popen(["bash", "-c", self.replaced(command)], env=self.environment,
                              cwd=folder or self.environment["HOME"], start_new_session=True,
                              stdin=theirs, stdout=theirs, stderr=theirs) as shell:
            os.close(theirs)
            with contextlib.suppress(OSError):  # the terminal's end
                while time.monotonic() < end:
                    if not select.select([ours], [], [], 0.1)[0]:
                        continue
                    text += os.read(ours, 65536).decode(errors="replace")
                    for question, answer in ANSWERS.items():
                        if text[asked:].endswith(question):
                            asked = len(text)
                            os.write(ours, f"{answer}\n".encode())
            with contextlib.suppress(subprocess.TimeoutExpired):
                shell.wait(max(0, end - time.monotonic()))
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
            code = shell.wait()
            os.close(ours)  # not before its end, which this would be
        if command.startswith(ENDLESS) and code == -signal.SIGKILL:
            code = 0
        return code, text.splitlines()


class Examples(Test):
    def setUp(self):
        super().setUp()
        self.worlds, self.cas = [], {}

    def ca(self, script, name, *options):
        """The path of CA key and certificate, without its end, and the URL of the server SCRIPT."""
        if script not in self.cas:
            folder, _, url = self.server(script, *options, environment={
                "SCEP_CA": str(BIN.parent / "tests/scep-ca")})
            self.cas[script] = folder / name, url
        return self.cas[script]

    def try_all(self, world, title, examples, folder=None):
        for example in examples:
            command = example.command
            if command.startswith(tuple(NOT_RUN)):
                continue
            for beginning, before in BEFORE.items():
                if command.startswith(beginning):
                    world.must(before)
            code, printed = world.typed(command, folder)
            said = f"{title}: {command}\n" + "\n".join([*printed, f"exit code {code}"])
            with self.subTest(f"{title}: {command}"):
                self.assertEqual(code != 0, command.startswith(FAILS), said)
                shown = [world.replaced(line) for line in example.output]
                if shown:
                    self.assertTrue(is_like(shown, printed),
                                    f"{said}\n  is not what is shown:\n" + "\n".join(shown))

    def try_texts(self, texts):
        for title, examples in texts:
            if all(example.command.startswith(tuple(NOT_RUN)) for example in examples):
                continue
            world = World(self, title)
            if not title.startswith("pkifsd.8"):  # where it is mounted by the examples
                world.mount()
            for beginning, before in BEFORE_TEXTS.items():
                if title.startswith(beginning):
                    world.must(before)
            self.try_all(world, title, examples)

    def test_the_readme(self):
        self.try_texts(of_markdown(SOURCE / "README.md"))

    def test_the_manual_pages(self):
        pages = sorted(PAGES.glob("*.[1-9]"))
        self.assertEqual([page.name for page in pages],
                         ["pkictl.1", "pkifs.7", "pkifs.conf.5", "pkifsd.8"])
        for page in pages:
            with self.subTest(page.name):
                self.try_texts(of_manual(page))
        self.assertEqual(len(self.worlds), 5)

    @unittest.skipUnless((SOURCE / "docs/guides").exists(), "there are no guides")
    def test_the_guides(self):
        for guide in sorted((SOURCE / "docs/guides").glob("*.md")):
            self.try_texts(of_markdown(guide))

    def test_the_readme_in_the_tree(self):
        world = World(self)
        world.mount()
        tree = world.folder / "pki"
        examples = of_tree(self.mounted(tree))
        self.assertEqual(len(examples), 8)
        self.try_all(world, "README of the tree", examples, tree)

    def mounted(self, point):
        return type("Mounted", (), {"read": lambda _, path: (point / path).read_text()})()

    def test_the_manual_knows_every_file(self):
        world = World(self)
        world.mount()
        world.must(READY)
        world.must("pkictl ca load corp --crl corp.crl && pkictl request csr www >csr")
        page = (PAGES / "pkifs.7").read_text()
        named = set(re.findall(r"^\.It Pa ([\w.-]+)", page, re.M))
        tree = world.folder / "pki"
        there = {path.name for path in tree.rglob("*")} - {"ca", "local", "ipsec", "corp", "www", "1"}
        self.assertEqual(there - named, set())
        self.assertEqual(named - there, {"pending.pem", "next.pem", "ocsp.der", "ca",
                                        "local", "ipsec"})  # not by now


if __name__ == "__main__":
    main()
