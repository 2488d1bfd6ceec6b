"""pkictl as a newcomer meets it, on a real mount and with a real CA."""

import os
import pathlib
import shlex

from harness import BIN, Test, main, run, shell

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "packaging/completion/pkictl"


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
                         ["scep"])
        self.assertEqual(self.offers("pkictl enroll www --challenge-password "), ["-"])

    def test_options_are_those_of_the_command(self):
        self.assertEqual(self.offers("pkictl show --"), ["--help", "--json"])
        offered = self.offers("pkictl enroll www --")
        self.assertTrue({"--domain-name", "--timeout", "--no-wait"} <= set(offered), offered)
        self.assertFalse({"--action", "--acme-challenge", "--json"} & set(offered), offered)

    def test_files_are_left_to_the_shell(self):
        self.assertEqual(self.offers("pkictl load www --cert "), ["files"])
        self.assertEqual(self.offers("pkictl enroll www --challenge-password-file "), ["files"])
        self.assertEqual(self.offers("pkictl export www -o "), ["files"])
        self.assertEqual(self.offers("pkictl ca load corp "), ["files"])
        self.assertEqual(self.offers("pkictl -m "), ["folders"])


if __name__ == "__main__":
    main()
