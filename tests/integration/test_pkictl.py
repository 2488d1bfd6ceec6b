"""pkictl as a newcomer meets it, on a real mount and with a real CA."""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import shlex
import struct
import subprocess
import termios

from harness import BIN, PATIENCE, Test, free_port, main, run, shell, until
from scep import Ca

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "packaging/completion/pkictl"


class Ctl(Test):
    def ctl(self, *words, code=0, input="", **options):
        """What pkictl says, on both its outputs."""
        done = run(BIN / "pkictl", "-m", self.m.point, *words, input=input, **options)
        self.assertEqual(done.returncode, code, f"{words}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def on_terminal(self, *words, columns=80, **environment):
        """pkictl on a terminal of COLUMNS: its process, and the bytes that it shows as they come."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {"TERM": "xterm", "TZ": "UTC", "PATH": "/usr/bin", **environment}
        with subprocess.Popen([BIN / "pkictl", "-m", self.m.point, *words], env=environment,
                              stdin=theirs, stdout=theirs, stderr=theirs) as process:
            os.close(theirs)
            try:
                yield process, ours
            finally:
                process.kill()
                os.close(ours)

    def shown(self, *words, **options):
        """All that pkictl shows on a terminal."""
        text = b""
        with self.on_terminal(*words, **options) as (_, terminal):
            with contextlib.suppress(OSError):  # its end
                while got := os.read(terminal, 65536):
                    text += got
        return text.decode().replace("\r\n", "\n")


class Completion(Test):
    """What the shell offers, as its completion script hands it over."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        for path in ("ca/corp", "ca/core", "local/www", "local/mail"):
            os.mkdir(self.m.point / path)

    def offers(self, line):
        """What bash would offer at the end of LINE, sorted; "files" or "folders" for those."""
        done = shell(f"""
            PATH={BIN}:$PATH PKIFS_MOUNT={self.m.point}
            export PATH PKIFS_MOUNT
            compopt() {{ [ "$2" = dirnames ] && echo folders || echo files; }}
            . {SCRIPT}
            COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
            _pkictl
            printf '%s\\n' "${{COMPREPLY[@]}}" """)
        self.assertEqual(done.stderr, "")
        return sorted(done.stdout.split())

    def test_commands_are_offered_word_by_word(self):
        self.assertEqual(self.offers("pkictl ca "),
                         ["add", "confirm", "enroll", "load", "show", "unenroll"])
        self.assertEqual(self.offers("pkictl re"), ["re-enroll", "request"])
        self.assertEqual(self.offers("pkictl nonsense "), [])
        self.assertEqual(self.offers("pkictl -m / key "), ["generate"])

    def test_names_are_those_of_the_mount(self):
        self.assertEqual(self.offers("pkictl ca enroll "), ["core", "corp"])
        self.assertEqual(self.offers("pkictl enroll "), ["mail", "www"])
        self.assertEqual(self.offers("pkictl show w"), ["www"])
        self.assertEqual(self.offers("pkictl show ca/"), ["ca/core", "ca/corp"])
        self.assertEqual(self.offers("pkictl enroll www --ca-profile "), ["core", "corp"])
        self.assertEqual(self.offers(f"pkictl -m {self.folder} enroll "), [])

    def test_values_come_from_the_key_tables(self):
        self.assertEqual(self.offers("pkictl enroll www --key-type "),
                         ["dsa", "ecdsa", "ed25519", "rsa"])
        self.assertEqual(self.offers("pkictl enroll www --key-type=e"), ["ecdsa", "ed25519"])
        self.assertEqual(self.offers("pkictl enroll www key-type=r"), ["rsa"])
        self.assertEqual(self.offers("pkictl enroll www --key-size 2"), ["2048", "256"])
        self.assertEqual(self.offers("pkictl enroll www --re-generate-keypair "), ["no", "yes"])
        self.assertEqual(self.offers("pkictl ca add new --enrollment-url http://ca/ --protocol "),
                         ["acme", "cmpv2", "est", "scep"])
        self.assertEqual(self.offers("pkictl enroll www --challenge-password "), ["-"])

    def test_options_are_those_of_the_command(self):
        self.assertEqual(self.offers("pkictl show --"), ["--help", "--json"])
        offered = self.offers("pkictl enroll www --")
        self.assertTrue({"--domain-name", "--timeout", "--no-wait"} <= set(offered), offered)
        self.assertFalse({"--action", "--json"} & set(offered), offered)

    def test_files_are_left_to_the_shell(self):
        self.assertEqual(self.offers("pkictl load www --cert "), ["files"])
        self.assertEqual(self.offers("pkictl enroll www --challenge-password-file "), ["files"])
        self.assertEqual(self.offers("pkictl export www -o "), ["files"])
        self.assertEqual(self.offers("pkictl ca load corp "), ["files"])
        self.assertEqual(self.offers("pkictl -m "), ["folders"])


class FromNothing(Ctl):
    """The first hour: what is said about what is not there yet, or wrong."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()

    def test_each_step_says_the_next_one(self):
        ca = Ca(self, script="scep-server")
        self.assertIn("pkictl ca add --help", self.ctl("show"))
        self.ctl("ca", "add", "corp", "--enrollment-url", ca.url)
        self.assertIn("To do: pkictl ca enroll corp", self.ctl("show", "corp"))
        self.assertIn("pkictl ca confirm corp", self.ctl("ca", "enroll", "corp", code=1))
        self.assertIn("To do: pkictl ca confirm corp", self.ctl("show", "corp"))
        self.ctl("ca", "confirm", "corp", input="yes\n")
        self.ctl("key", "generate", "www", "--ca-profile", "corp")
        self.assertIn("To do: pkictl enroll www", self.ctl("show", "www"))
        self.assertIn("challenge", self.ctl("enroll", "www", "--domain-name", "www.example.net",
                                            "--challenge-password", "wrong", code=1))
        self.assertRegex(self.ctl("show", "www"),
                         r"Wrong: enroll has failed: .*challenge-password right"
                         r"(.|\n)*To do: mend that, then pkictl enroll www")
        self.ctl("enroll", "www", "--challenge-password", "-", input="secret\n")
        self.assertRegex(self.ctl("show", "www"),
                         r"\n\nNext:  expires at .* in 36\d days; pkictl re-enroll www renews it")

    def test_a_request_that_waits_says_for_what_and_how_to_end_it(self):
        self.ctl("ca", "add", "corp", "--enrollment-url", f"http://127.0.0.1:{free_port()}/scep")
        self.assertIn("cannot reach", self.ctl("ca", "enroll", "corp", code=1))
        said = self.ctl("show", "corp")
        self.assertIn("Wrong: the last try of enroll failed: cannot reach", said)
        self.assertIn("pkictl cancel corp ends it", said)
        self.assertRegex(said, r"Next:  try again at .*, in 1\d minutes")
        self.ctl("cancel", "corp")
        self.assertNotIn(self.m.status("ca/corp")["request"], ("waiting", "running"))

    def test_a_wrong_word_is_answered_with_the_right_one(self):
        self.assertIn("did you mean enroll;", self.ctl("enrol", "www", code=2))
        self.assertIn("  ca confirm  ", self.ctl("ca", "konfirm", code=2))
        self.assertIn("did you mean --key-type?", self.ctl("enroll", "www", "--keytype=x", code=2))

    def test_what_is_in_use_is_not_removed_and_by_whom(self):
        os.mkdir(self.m.point / "ca/corp")
        os.mkdir(self.m.point / "local/www")
        self.m.write("local/www/config", "ca-profile = corp\n")
        self.assertIn("in use by local www", self.ctl("rm", "corp", "--yes", code=1))


class FromElsewhere(Ctl):
    """A certificate bought elsewhere, in whatever files it came."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        done = shell("""
            openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=CA
            openssl req -new -newkey rsa:2048 -nodes -keyout www.key -out csr -subj /CN=www
            openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -days 9 -out www.crt
            openssl pkey -in www.key -aes256 -passout pass:x -out locked.key
            cat ca.crt www.key www.crt >all.pem""", cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)

    def load(self, *words, code=0):
        return self.ctl("load", "www", *words, cwd=self.folder, code=code)

    def test_in_files_of_its_parts(self):
        self.load("--key", "www.key", "--cert", "www.crt", "--chain", "ca.crt")
        self.assertEqual(self.m.status("local/www")["state"], "valid")
        self.assertIn("pkictl ca load PROFILE FILE", self.ctl("show", "www"))
        self.ctl("ca", "load", "seller", self.folder / "ca.crt", "--yes")
        self.load("--cert", "www.crt")
        self.assertEqual(self.m.status("local/www")["trust"], "profile")

    def test_in_one_file(self):
        self.load("all.pem")
        self.assertEqual(self.m.status("local/www")["subject"], "CN=www")

    def test_what_cannot_be_loaded_is_named(self):
        self.assertIn("the private key is encrypted; write it as `openssl pkey",
                      self.load("--key", "locked.key", "--cert", "www.crt", code=1))
        self.assertIn("there is no key yet: write key.pem first",
                      self.load("--cert", "www.crt", code=1))
        said = self.load("--key", "all.pem", "--cert", "locked.key", code=1)
        self.assertNotIn("loaded", said)  # the key went with the certificate id
        self.assertIn("neither key nor certificate in PEM", self.load("/bin/true", code=1))
        shell("openssl pkcs12 -export -in www.crt -inkey www.key -passout pass: -out all.p12",
              cwd=self.folder)
        self.assertIn("openssl pkcs12 -in FILE -nodes", self.load("all.p12", code=1))
        certificate = self.folder / "www.crt"
        self.assertIn("none of the 1 certificates is one of a CA",
                      self.ctl("ca", "load", "seller", certificate, "--yes", code=1))
        shell("openssl x509 -req -in csr -signkey www.key -days 9 -out root.crt -extfile /dev/stdin"
              " <<< basicConstraints=CA:TRUE", cwd=self.folder)
        self.ctl("ca", "load", "seller", self.folder / "root.crt", "--yes")
        self.assertIn("neither DER nor PEM with a block X509 CRL",
                      self.ctl("ca", "load", "seller", "--crl", certificate, code=1))
        (self.folder / "line").write_text("-----BEGIN X-----END " * 9999 + "PRIVATE KEY-----")
        self.load("line", code=1)
        self.assertIn("--key FILE", self.load(code=2))
        self.assertFalse((self.m.point / "local/www").exists())  # as before


class Terminal(Ctl):
    """Colour, width, progress and times are for people alone."""

    def setUp(self):
        super().setUp()
        self.m = self.mount()
        os.mkdir(self.m.point / "local/www")
        self.m.request("local/www", "action = generate-self-signed\nsubject = CN=www\n")

    def test_colours_are_for_terminals_that_want_them(self):
        green = "\033[32mvalid\033[0m"
        self.assertIn(green, self.shown("show"))
        self.assertNotIn("\033", self.shown("show", NO_COLOR="1"))
        self.assertNotIn("\033", self.shown("show", TERM="dumb"))
        self.assertIn(green, self.shown("show", NO_COLOR=""))
        self.assertNotIn("\033", self.ctl("show"))

    def test_the_table_fits_the_terminal(self):
        sentence = "key-size takes"
        with self.assertRaises(OSError):
            self.m.write("local/www/config", "key-size = 1\n")
        for columns in 40, 60, 100:
            lines = self.shown("show", columns=columns, NO_COLOR="1").splitlines()
            self.assertTrue(all(len(line) <= columns for line in lines), lines)
            self.assertEqual(columns == 100, any(sentence in line for line in lines), lines)
        # a program gets all of it
        self.assertIn(self.m.status("local/www")["last-error"], self.ctl("show"))

    def test_events_are_shown_in_local_time_and_as_json_where_asked(self):
        stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  local/www  config"
        for words, shape in ((), stamp), (("--json",), r'\{"time":.*"event":"config"'):
            with self.on_terminal("watch", *words, NO_COLOR="1") as (_, terminal):
                self.assertTrue(until(lambda: self.is_watched()))
                self.m.write("local/www/config", f"# {words}\nsubject = CN=www\n")
                line = os.read(terminal, 4096).decode().splitlines()[0]
                self.assertRegex(line, shape)
                if words:
                    json.loads(line)

    def test_a_secret_is_never_shown_however_fast_it_is_typed(self):
        with self.on_terminal("key", "generate", "mail", "--challenge-password", "-") as (
                process, terminal):
            text = b""
            while b"challenge-password: " not in text:
                text += os.read(terminal, 4096)
            os.write(terminal, b"hunter2\n")
            self.assertEqual(process.wait(PATIENCE), 0)
            text += os.read(terminal, 4096)
        self.assertNotIn(b"hunter2", text)
        self.assertIn("***", self.m.read("local/mail/config"))

    def is_watched(self):
        """Some process waits in a read of `watch`."""
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if any(os.readlink(fd) == str(self.m.point / "watch")
                       for fd in (folder / "fd").iterdir()):
                    return True
        return False

    def test_progress_says_what_is_waited_for_and_since_when(self):
        ca = Ca(self, "-w", "1000")
        self.trusted_profile(self.m, ca.url)
        self.certificate_id(self.m, "slow")
        self.ready_key(self.m, "slow", "RSA")
        with self.on_terminal("enroll", "slow") as (_, terminal):
            text = ""
            while "next: poll the CA at" not in text:
                text += os.read(terminal, 4096).decode()
        self.assertRegex(text, r"local/slow: enroll waiting since \d\d:\d\d:\d\d \(\d+ s\)")


if __name__ == "__main__":
    main()
