"""The built executable as tests call it. HEDDLE names it."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEDDLE = os.environ.get("HEDDLE", str(ROOT / "build" / "heddle"))
TIMEOUT = 300


def environment(**extra):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HEDDLE_") or k == "HEDDLE_CPU_ISA"}
    return {**clean, **extra}


def heddle(*args, stdin=b"", env=None, stdout=subprocess.PIPE):
    """(exit code, stdout, stderr)"""
    p = subprocess.run([HEDDLE, *map(str, args)], input=stdin, stdout=stdout, stderr=subprocess.PIPE,
                       timeout=TIMEOUT, env=environment(**(env or {})))
    return p.returncode, (p.stdout or b"").decode(), p.stderr.decode()


def good(*args, **kw):
    rc, out, err = heddle(*args, **kw)
    if rc != 0:
        raise AssertionError(f"exit {rc}: {err}")
    return out


def as_json(*args, **kw):
    return json.loads(good(*args, "--json", **kw))


class Cli(unittest.TestCase):
    def assertRefused(self, args, *parts, code=2, **kw):
        rc, out, err = heddle(*args, **kw)
        self.assertEqual(rc, code, err)
        self.assertEqual(out, "")
        lines = [x for x in err.splitlines() if x.startswith("error: ")]
        self.assertEqual(len(lines), 1, err)
        self.assertTrue(err.endswith(lines[0] + "\n"), "a message is one line")
        for part in parts:
            self.assertIn(part, lines[0])


def run_with_tiny_models():
    """Runs the tests of __main__, which make models with make_tiny_model.py. Exit status 77: something was skipped."""
    if not pathlib.Path(HEDDLE).exists():
        sys.exit(f"there is no executable {HEDDLE}")
    try:
        import numpy  # noqa: F401  make_tiny_model.py needs it
    except ImportError:
        print("skipped: numpy is not there")
        sys.exit(77)
    result = unittest.main(exit=False).result
    sys.exit(1 if not result.wasSuccessful() else 77 if result.skipped else 0)
