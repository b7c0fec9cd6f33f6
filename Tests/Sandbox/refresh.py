"""An instance refresh, as Auto Scaling carries it out: a group's instances are replaced by those of a new template.

    refresh = Refresh(sandbox.lifecycle, "consul", user_data=NEW)
    until(lambda: refresh.has_ended)
    assert refresh.status == "Successful"

| Argument | Meaning (API reference, RefreshPreferences) |
|---|---|
| `user_data`, `launch` | what the new template boots, and keywords of `sandbox.launch` as of `manage` |
| `least`, `most` | MinHealthyPercentage, MaxHealthyPercentage; 100 and 120 launch one before one of five goes |
| `warmup` | seconds in service before an instance counts |
| `checkpoints`, `delay` | CheckpointPercentages; CheckpointDelay in seconds, of which `proceed()` ends one early |
| `rollback` | AutoRollback: an abandoned launch brings the old template back, and replaces what is new |
| `waits` | a batch begins after the terminations of the one before it; else beside them |
| `patience` | seconds without progress after which it fails |

`status` is AWS's: InProgress, Successful, Failed, Cancelled, RollbackInProgress, RollbackSuccessful, RollbackFailed;
`reason` says why it failed, `reached` are the checkpoints so far. The events of the engine have every step.
"""

import math
import threading
import time

from .capacity import COUNTED
from .lifecycle_api import changed

# States of an instance whose termination has ended.
GONE = (None, "Terminating:Retained")
ENDS = ("Successful", "Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed")


class Failure(Exception):
    pass


class Cancelled(Exception):
    pass


class Refresh:
    def __init__(
        self,
        engine,
        group,
        user_data=None,
        launch=None,
        least=100,
        most=120,
        warmup=0,
        checkpoints=(),
        delay=0,
        rollback=True,
        waits=True,
        patience=3600,
    ):
        """Starts it."""
        self.engine, self.group, self.spec = engine, group, engine.groups[group]
        self.policy = {"MinHealthyPercentage": least, "MaxHealthyPercentage": most}
        self.warmup, self.checkpoints, self.delay = warmup, checkpoints, delay
        self.rollback, self.waits, self.patience = rollback, waits, patience
        self.reached = []
        self.reason = None
        self._proceeds, self._is_cancelled = threading.Event(), False
        with changed:
            spec = self.spec
            self._previous = (spec.user_data, spec.launch, spec.version)
            spec.user_data = spec.user_data if user_data is None else user_data
            spec.launch = spec.launch if launch is None else launch
            spec.version = max([*engine.versions.values(), spec.version]) + 1
            self._set("InProgress")
        engine.start(self._run)

    @property
    def has_ended(self):
        return self.status in ENDS

    def cancel(self):
        """What is replaced stays so."""
        with changed:
            self._is_cancelled = True
            self._proceeds.set()
            changed.notify_all()

    def proceed(self):
        """Ends the wait at a checkpoint, or at the next one."""
        self._proceeds.set()

    def _set(self, status):
        self.status = status
        self.engine.record("refresh", group=self.group, status=status)

    def _run(self):
        try:
            self._replace(self.checkpoints)
            self._set("Successful")
        except Cancelled:
            self._set("Cancelled")
        except Failure as failure:
            self.reason = str(failure)
            if not self.rollback:
                self._set("Failed")
                return
            with changed:
                self.spec.surge = 0
                self.spec.user_data, self.spec.launch, self.spec.version = self._previous
                # What is launched and not in service yet is too much.
                self.engine.reconcile(self.group)
            self._set("RollbackInProgress")
            try:
                self._replace(())
                self._set("RollbackSuccessful")
            except Cancelled:
                self._set("Cancelled")
            except Failure:
                self._set("RollbackFailed")
        finally:
            with changed:
                self.spec.surge = 0
                self.engine.reconcile(self.group)

    def _replace(self, checkpoints):
        """Replaces every instance that is not of the current version."""
        total, pending = len(self._outdated()), sorted(checkpoints)
        # Those before a roll-back are not its own.
        self._failures = self.spec.failures[self.spec.version]
        while outdated := self._outdated():
            room, spare = self._allowance()
            batch = room or max(1, spare)
            if pending:
                # A checkpoint ends a batch.
                batch = min(batch, max(1, math.ceil(total * pending[0] / 100) - total + len(outdated)))
            if room:
                self._launch_first(outdated[:batch])
            else:
                self._terminate_first(outdated[:batch])
            while pending and total - len(self._outdated()) >= total * pending[0] / 100:
                self._pause(pending.pop(0))

    def _allowance(self):
        """How many instances the group may have above the desired capacity, and how many it may lack."""
        desired = self.engine.aws.group(self.group).desired_capacity
        least, most = self.engine.healthy_counts(self.group, self.policy)
        return most - desired, desired - least

    def _launch_first(self, leaving):
        with changed:
            wanted = len(self._current()) + len(leaving)
            self.spec.surge = len(leaving)
            self.engine.reconcile(self.group)
        self._await(lambda: len(self._current()) >= wanted)
        self._warm_up()
        with changed:
            self.spec.surge = 0
            self._end(leaving)
        self._await_gone(leaving)

    def _terminate_first(self, leaving):
        with changed:
            wanted = len(self._current()) + len(leaving)
            self._end(leaving)
        self._await(lambda: len(self._current()) >= wanted)
        self._await_gone(leaving)
        self._warm_up()

    def _end(self, members):
        for member in members:
            self.engine.end(self.engine.aws.group(self.group), member)
        self.engine.reconcile(self.group)

    def _await_gone(self, members):
        if self.waits:
            self._await(lambda: all(self.engine.state(member.instance.id) in GONE for member in members))

    def _outdated(self):
        with changed:
            members = self.engine.aws.group(self.group).instance_states
            listed = [member for member in members if member.lifecycle_state in COUNTED]
            return [m for m in listed if self.engine.versions.get(m.instance.id) != self.spec.version]

    def _current(self):
        members = self.engine.aws.group(self.group).instance_states
        listed = [member.instance.id for member in members if member.lifecycle_state == "InService"]
        return [id for id in listed if self.engine.versions.get(id) == self.spec.version]

    def _await(self, condition):
        deadline = time.monotonic() + self.patience
        with changed:
            while not condition():
                if self.engine.closing.is_set() or self._is_cancelled:
                    raise Cancelled
                if self.spec.failures[self.spec.version] > self._failures:
                    raise Failure("the launch of an instance was abandoned")
                if time.monotonic() >= deadline:
                    raise Failure(f"no progress within {self.patience} s")
                changed.wait(deadline - time.monotonic())

    def _warm_up(self):
        if self.engine.closing.wait(self.warmup) or self._is_cancelled:
            raise Cancelled

    def _pause(self, percentage):
        self.reached.append(percentage)
        self.engine.record("checkpoint", group=self.group, percentage=percentage)
        # At 100 % there is nothing left to hold.
        if percentage < 100:
            deadline = time.monotonic() + self.delay
            while time.monotonic() < deadline and not self.engine.closing.is_set():
                if self._proceeds.wait(min(0.2, max(0, deadline - time.monotonic()))):
                    break
        if self._is_cancelled or self.engine.closing.is_set():
            raise Cancelled
        self._proceeds.clear()
