"""Machines that power themselves off, or are powered off: the end of their processes."""

import contextlib
import os
import select
import signal
import time


def open_processes(signals):
    """Handles of the processes that still run, after their signals.

    - signals: by process id; 0 is none."""
    handles = []
    for pid, number in signals.items():
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
            signal.pidfd_send_signal(handles[-1], number)
    return handles


def await_end(handles, cancelled, seconds=float("inf")):
    """Waits for the end of all, or for `cancelled`; returns whether all have ended. Closes the handles."""
    remaining, deadline = list(handles), time.monotonic() + seconds
    while remaining and time.monotonic() < deadline and not cancelled.is_set():
        ended = select.select(remaining, [], [], 0.2)[0]
        remaining = [handle for handle in remaining if handle not in ended]
    for handle in handles:
        os.close(handle)
    return not remaining
