"""A thousand new versions under readers: each sees one whole version, and never an older one."""

import concurrent.futures
import os
import time

import readers
from harness import Test, main, make_pairs, many, watched

VERSIONS = many(10000)
KEYS = 100  # made once, taken round and round
SHARE = 3   # certificates of each key
KEPT = 3     # versions that have their key: keep-versions, and the one in force
READERS = 20
MISSES = 16


class Round:
    """The files as a reader finds them: which key it is, and whose certificate."""

    def __init__(self, www, pairs):
        self.www = www
        self.keys = {key: i // SHARE for i, (key, _) in enumerate(pairs)}
        self.certificates = {certificate: i for i, (_, certificate) in enumerate(pairs)}

    def key(self, name="key.pem"):
        return self.keys[(self.www / name).read_text()]

    def certificate(self, name="cert.pem"):
        """The number of the key that it is for."""
        return self.certificates[(self.www / name).read_text()] // SHARE

    def pair(self, name="bundle.pem"):
        text = (self.www / name).read_text()
        at = text.index("-----BEGIN CERTIFICATE")
        key, certificate = self.keys[text[:at]], self.certificates[text[at:]]
        if key != certificate // SHARE:
            raise ValueError(f"{name}: key {key} with certificate {certificate}")
        return key

    @staticmethod
    def follows(first, then):
        if (then - first) % KEYS > KEYS // 2:
            raise ValueError(f"{then} after {first}")

    def key_then_certificate(self):
        self.follows(self.key(), self.certificate())

    def certificate_then_key(self):
        self.follows(self.certificate(), self.key())

    def bundle(self):
        first = self.pair()
        self.follows(first, self.certificate("fullchain.pem"))

    def version(self):
        """The newest of versions/<n>/: whole and matching, however long ago it was listed."""
        number = max(int(name) for name in os.listdir(self.www / "versions"))
        certificate = self.certificate(f"versions/{number}/cert.pem")
        try:
            pair = self.pair(f"versions/{number}/bundle.pem")
            key = self.key(f"versions/{number}/key.pem")
        except FileNotFoundError:  # its key is gone: it was replaced more than KEPT times
            now = max(int(name) for name in os.listdir(self.www / "versions"))
            if now - number < KEPT:
                raise
            return
        if (pair, key) != (certificate, certificate):
            raise ValueError(f"version {number}: {certificate}, {pair}, {key}")

    def miss(self):
        for name in ("nobody/cert.pem", "www/cert.pem.tmp", f"www{os.getpid()}"):
            if (self.www.parent / name).exists():
                raise ValueError(f"{name} exists")


class Versions(Test):
    def setUp(self):
        super().setUp()
        self.m = self.mount()
        self.www = self.m.point / "local/www"
        os.mkdir(self.www)

    def test_a_thousand_versions_under_readers(self):
        pairs = make_pairs(self.folder, KEYS, SHARE)
        self.m.write("local/www/key.pem", pairs[0][0])
        self.m.write("local/www/cert.pem", pairs[0][1])
        turn = Round(self.www, pairs)
        kinds = (turn.key_then_certificate, turn.certificate_then_key, turn.bundle, turn.version)
        # so many processes leave no time for the writer if they do not pause
        looking = readers.start(*kinds * (READERS // len(kinds)), *[turn.miss] * MISSES, pause=0.05)
        begin, slowest = time.monotonic(), 0
        for i in range(1, VERSIONS):
            key, certificate = pairs[i % len(pairs)]
            before = time.monotonic()
            if i % SHARE == 0:
                self.m.write("local/www/key.pem", key)
            self.m.write("local/www/cert.pem", certificate)
            slowest = max(slowest, time.monotonic() - before)
        seconds = time.monotonic() - begin
        results = readers.finish(self, looking)
        self.assertEqual(self.m.status("local/www")["version"], str(VERSIONS))
        print(f"{VERSIONS} versions in {seconds:.1f} s, slowest {slowest * 1000:.0f} ms; "
              f"{sum(r[0] for r in results[:READERS])} reads of {READERS} processes, "
              f"{sum(r[0] for r in results[READERS:])} misses of {MISSES}; longest wait "
              f"{max(r[1] for r in results) * 1000:.0f} ms")

    def test_an_open_file_keeps_its_version(self):
        pairs = make_pairs(self.folder, 2, SHARE)[:5]
        self.m.write("local/www/key.pem", pairs[0][0])
        self.m.write("local/www/cert.pem", pairs[0][1])
        with open(self.www / "bundle.pem") as bundle, open(self.www / "cert.pem") as certificate:
            old = self.m.read("local/www/bundle.pem")
            for key, text in pairs[1:]:
                self.m.write("local/www/key.pem", key)
                self.m.write("local/www/cert.pem", text)
            self.assertEqual(bundle.read(), old)
            self.assertEqual(certificate.read(), pairs[0][1])
        self.assertEqual(self.m.read("local/www/cert.pem"), pairs[4][1])

    def test_a_name_whose_key_is_gone_is_not_there(self):
        pairs = make_pairs(self.folder, KEPT + 1)
        old = self.www / "versions/1"
        for key, certificate in pairs:
            self.m.write("local/www/key.pem", key)
            self.m.write("local/www/cert.pem", certificate)
            self.assertEqual((old / "cert.pem").read_text(), pairs[0][1])
            if key != pairs[-1][0]:  # so the kernel knows the names
                self.assertEqual((old / "key.pem").read_text(), pairs[0][0])
                self.assertTrue((old / "bundle.pem").exists())
        for name in ("key.pem", "bundle.pem"):
            with self.assertRaises(FileNotFoundError):
                (old / name).read_text()

    def test_a_name_that_is_replaced_all_the_time_is_always_there(self):
        config = self.m.point / "local/www/config"

        def write(number):
            for turn in range(many(2000)):
                config.write_text(f"subject = CN=x{number}-{turn}\n")

        def read():
            for _ in range(many(20000)):
                config.read_text()

        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            done = [pool.submit(write, number) for number in range(8)]
            done += [pool.submit(read) for _ in range(4)]
        self.assertEqual([one.exception() for one in done if one.exception()], [])

    def test_watchers_see_a_renewal(self):
        self.m.write("local/www/config", "subject = CN=www\nkey-type = ecdsa\n")
        self.assertEqual(self.m.request("local/www", "generate-self-signed"), "ok")
        for target in (self.www / "cert.pem", self.www):
            with watched(target, "attrib", "moved_to", include="cert.pem$") as watcher:
                self.assertEqual(self.m.request("local/www", "generate-self-signed"), "ok")
                said, _ = watcher.communicate(timeout=readers.HANG)
            self.assertEqual(watcher.returncode, 0, f"no event on {target}")
            print(said.strip().replace(str(self.www), "…"))


if __name__ == "__main__":
    main()
