"""Other people's certificates: ca/<profile>/verify, and pkictl verify on it."""

import os
import pathlib
import threading
import time
import unittest

from harness import BIN, SANITIZED, Clock, Mount, Mounted, attempt, main, run
