"""How long a tunnel takes to come up, in a guest (tests/lab/uml-run) that runs tunnels_in_guest.py."""

import json
import os
import shutil
import subprocess

from bench import BIN, HERE, Row, scaled
from harness import SANITIZED

NOTE = ("**Tunnel up** (in user-mode-linux): a packet a millisecond wants to go; from the start of "
        "`sh -c 'echo up > request'`, or of `swanctl --initiate`, until the first one goes in ESP. "
        "Both have one charon do the same exchanges with the same peer, in turns. What swanctl takes "
        "to start (`swanctl --version`) is taken off its time. pkifs asks charon for the peer's "
        "certificate, and judges it, before traffic may use the SAs.")


def measure():
    if SANITIZED or os.geteuid() != 0 or not shutil.which("linux.uml"):
        return  # no guest
    done = subprocess.run(
        [HERE.parent / "lab/uml-run", "-r", HERE.parent.parent, "-r", BIN.parent, "env", "IN_GUEST=1",
         f"PKIFS_BIN={BIN}", "python3", "-B", HERE / "tunnels_in_guest.py", str(scaled(15, 2))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stdout)
    ours, theirs, start = json.loads(done.stdout.splitlines()[-1])
    theirs = max(theirs - start, 1)
    yield Row("tunnel: from `up` to the first packet in ESP", f"{ours:.0f} ms",
              f"swanctl {theirs:.0f} ms", ours / theirs, "<= 1.25")
