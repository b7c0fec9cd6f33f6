"""Waiting for conditions, with one timeout for everything.

The timeout is no expectation: a wait ends as soon as its condition holds. It only ends a test whose condition never
comes true, and it is so long that a machine under the load of several suites does not reach it.
"""

import os
import time

TIMEOUT = float(os.environ.get("SANDBOX_TIMEOUT", "240"))


def until(condition, what=None, every=0.05, timeout=TIMEOUT):
    """Waits until the condition holds, and returns its value. Fails after `timeout` seconds.

    - what: for the failure; a text, or a function that returns one."""
    deadline = time.monotonic() + timeout
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what() if callable(what) else what or condition}")
        time.sleep(every)
