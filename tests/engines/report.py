"""How an engine's operations are run, printed by name and counted."""

import os
import subprocess
import sys
import time
import traceback

# An emulated machine is much slower.
PATIENCE = 5 if "HUSK_VM" in os.environ else 1

passed = []
failed = []


def operation(name):
    """Runs the function below it at once. An exception of any kind is its failure."""

    def run(function):
        began = time.monotonic()
        try:
            function()
        except Exception as problem:
            failed.append(name)
            why = " ".join(str(problem).split()) or type(problem).__name__
            line = traceback.extract_tb(problem.__traceback__)[1].lineno
            print(f"FAIL {name}: line {line}: {why[:600]}", flush=True)
        else:
            passed.append(name)
            print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)

    return run


def equal(found, expected):
    assert found == expected, f"expected {expected!r}, found {found!r}"


def holds(text, *words):
    for word in words:
        assert word in text, f"expected {word!r} in {text!r}"


def until(what, is_done, seconds=60):
    """Waits for what happens by itself; returns what is_done returned."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = is_done()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def shell(script):
    """A shell script's output, which must succeed."""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True,
                          timeout=120 * PATIENCE)
    assert done.returncode == 0, f"{script}: {done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout.strip()


def finish(engine):
    print(f"{engine}: {len(passed)} of {len(passed) + len(failed)} operations", flush=True)
    sys.exit(bool(failed) or not passed)
