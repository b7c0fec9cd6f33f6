"""The engine of Auto Scaling: groups that terminate, replace and launch their instances, with lifecycle hooks.

`sandbox.lifecycle` is one. It does nothing until a test calls an operation; `sandbox.launch_group` tells it what a
group launches. An instance is given as an `Instance` or as its id.

| Function | What it does |
|---|---|
| `manage(group, user_data, **launch)` | the group launches with this user data and these keywords of `sandbox.launch` |
| `put_hook(group, transition, heartbeat, default, global_timeout)` | PutLifecycleHook, also with short times |
| `retain(group)` | TerminateHookAbandon=retain: an abandoned termination ends in `Terminating:Retained` |
| `maintain(group, least, most)` | the maintenance policy in percent: 100, 120 launches before it terminates |
| `terminate_in_group(instance, decrement)` | TerminateInstanceInAutoScalingGroup; also ends a retained instance |
| `set_desired(group, n)` | SetDesiredCapacity: launches, or ends the oldest of the zone that has most |
| `unhealthy(instance)` | a failed health check: replaced in the order of the maintenance policy |
| `terminate(instance, noticed_after)` | EC2's TerminateInstances: no notice; the group notices later |
| `watch(instance)` | an instance that powers itself off is terminated by that; so is a retained one |
| `reconcile(group)` | launches what is missing and ends what is too much, now |
| `state(instance)`, `ec2_state(instance)` | state in the group; state in EC2, None once EC2 has forgotten it |
| `in_service(group)`, `members(group, *states)` | instances by state |
| `settled(group)` | whether as many as desired are in service, and no other is listed but retained ones |
| `events` | what happened: time, event, instance, group |

Times are real. `shutdown` is the range of seconds that EC2 takes at least from `shutting-down` to `terminated`,
`grace` what the system gets to power off, `forget_after` how long EC2 shows a terminated instance.
"""

import os
import random
import threading
import time
import traceback

from . import capacity, power
from .capacity import COUNTED, ManagedGroup
from .lifecycle_api import LAUNCHING, TERMINATING, LifecycleAction, active, await_result, changed

TARGET = "/latest/meta-data/autoscaling/target-lifecycle-state"
# Between launches that fail; it doubles from one to the next, as AWS's does.
LONGEST_PAUSE = 60


def identifier(instance):
    return instance if isinstance(instance, str) else instance.id


class Lifecycle:
    def __init__(self, sandbox):
        self.sandbox, self.aws = sandbox, sandbox.aws
        self.random = random.Random(os.environ.get("CONSUL_BOOTSTRAP_TEST_SEED", "0"))
        self.shutdown, self.grace, self.forget_after = (1.0, 3.0), 60, 3600
        self.groups, self.versions = {}, {}
        # Set at the end of the boot, by instance: what boots cannot be powered off.
        self._booting = {}
        self.events, self.errors = [], []
        self.closing = threading.Event()
        self._threads = []

    # What a test sets up.

    def manage(self, group, user_data=None, **launch):
        with changed:
            spec = self.groups[group] = ManagedGroup(group, user_data, launch)
            for member in self.aws.group(group).instance_states:
                self.versions.setdefault(member.instance.id, spec.version)
                self._target(member.instance.id, "InService")
        return spec

    def put_hook(
        self, group, transition=TERMINATING, heartbeat=300, default="ABANDON", global_timeout=None, name="hook"
    ):
        """Unlike the API it takes heartbeats of less than 30 seconds, and any global timeout."""
        hook = self.aws.autoscaling.create_lifecycle_hook(name, group, transition, heartbeat, default)
        hook.global_timeout = global_timeout or hook.global_timeout
        return hook

    def retain(self, group, action="retain"):
        self.aws.group(group).instance_lifecycle_policy = {"RetentionTriggers": {"TerminateHookAbandon": action}}

    def maintain(self, group, least, most):
        self.aws.group(group).instance_maintenance_policy = {
            "MinHealthyPercentage": least,
            "MaxHealthyPercentage": most,
        }

    # Operations.

    def terminate_in_group(self, instance, decrement=False):
        """At once, whatever the maintenance policy says."""
        with changed:
            group, member = self._member(instance)
            if decrement:
                group.desired_capacity -= 1
            if member.lifecycle_state == "Terminating:Retained":
                self._set(member, "Terminating:Proceed")
                self.start(self._end_instance, member.instance.id)
            else:
                self.end(group, member)
            self.reconcile(group.name)

    def set_desired(self, group, desired):
        with changed:
            self.aws.set_desired(group, desired)
            self.record("desired", group=group, desired=desired)
            self.reconcile(group)

    def unhealthy(self, instance):
        with changed:
            group, member = self._member(instance)
            member.health_status = "Unhealthy"
            self.record("unhealthy", member.instance.id, group.name)
            if group.name in self.groups:
                self.groups[group.name].replacing.append(member.instance.id)
                self.reconcile(group.name)
            else:
                self.end(group, member)

    def terminate(self, instance, noticed_after=0):
        """The group lists it until it notices."""
        self.start(self._terminate_outside, identifier(instance), noticed_after)

    def watch(self, instance):
        """InstanceInitiatedShutdownBehavior=terminate. The engine watches retained instances by itself."""
        self.start(self._watch, self.sandbox.instances[identifier(instance)])

    def reconcile(self, group):
        with changed:
            spec = self.groups.get(group)
            if not spec or self.closing.is_set() or group not in self.aws.autoscaling.autoscaling_groups:
                return
            states = self.aws.group(group).instance_states
            counted = [member for member in states if member.lifecycle_state in COUNTED]
            desired = self.aws.group(group).desired_capacity
            least, most = self.healthy_counts(group)
            listed = {member.instance.id: member for member in counted}
            spec.replacing = [id for id in spec.replacing if id in listed]
            in_service = sum(member.lifecycle_state == "InService" for member in counted)
            while spec.replacing and in_service > least:
                member = listed.pop(spec.replacing.pop(0))
                counted.remove(member)
                in_service -= member.lifecycle_state == "InService"
                self.end(self.aws.group(group), member)
            target = desired + spec.surge + min(len(spec.replacing), most - desired)
            for _ in range(target - len(counted) - len(spec.launching)):
                zones = self.aws.zones_of(group)
                spec.launching.append(capacity.emptiest_zone(zones, states, spec.launching))
                self.start(self._launch, spec, spec.launching[-1])
            # Not for one that the group does not list yet: it goes itself.
            for _ in range(len(counted) - target):
                member = capacity.first_to_go(counted, self.versions, spec.version)
                counted.remove(member)
                self.end(self.aws.group(group), member)

    def healthy_counts(self, group, policy=None):
        """The least and the most instances by this policy, or by the group's."""
        policy = policy or getattr(self.aws.group(group), "instance_maintenance_policy", None)
        return capacity.healthy_counts(self.aws.group(group).desired_capacity, policy)

    # What a test asks.

    def state(self, instance):
        found = self._find(instance)
        return found[1].lifecycle_state if found else None

    def ec2_state(self, instance):
        found = self.aws.ec2.get_instance_by_id(identifier(instance))
        return found.state if found else None

    def members(self, group, *states):
        """Instances of a group whose state there is one of these, or begins with it."""
        with changed:
            found = [m for m in self.aws.group(group).instance_states if m.lifecycle_state.startswith(states or "")]
            return [self.sandbox.instances[m.instance.id] for m in found if m.instance.id in self.sandbox.instances]

    def in_service(self, group):
        return self.members(group, "InService")

    def settled(self, group):
        with changed:
            states = [member.lifecycle_state for member in self.aws.group(group).instance_states]
            listed = [state for state in states if state != "Terminating:Retained"]
            launching = group in self.groups and self.groups[group].launching
            return listed == ["InService"] * self.aws.group(group).desired_capacity and not launching

    # Launching.

    def _launch(self, spec, zone):
        try:
            instance = self.sandbox.launch(**{"zone": zone, **spec.launch, "boot": False})
        except BaseException:
            with changed:
                spec.launching.remove(zone)
            raise
        with changed:
            spec.launching.remove(zone)
            member = self.aws.attach(instance.id, spec.name, "Pending")
            self.versions[instance.id] = spec.version
            user_data = spec.user_data
            self._booting[instance.id] = threading.Event()
            actions = self._hold(member, LAUNCHING, "Pending:Wait")
            self.record("launch", instance.id, spec.name, version=spec.version)
            self._target(instance.id, "InService")
            self.reconcile(spec.name)
        try:
            if member.lifecycle_state in COUNTED:
                instance.boot(user_data(instance) if callable(user_data) else user_data)
        finally:
            self._booting.pop(instance.id).set()
        result = self._await(instance.id, actions)
        with changed:
            if result is None or member.lifecycle_state not in COUNTED:
                return
            if result == "CONTINUE":
                spec.abandoned = 0
                if actions:
                    self._set(member, "Pending:Proceed")
                self._set(member, "InService")
                self.reconcile(spec.name)
                return
            spec.abandoned += 1
            spec.failures[self.versions[instance.id]] += 1
            self.record("launch-abandoned", instance.id, spec.name, version=self.versions[instance.id])
            self.end(self.aws.group(spec.name), member)
            pause = min(LONGEST_PAUSE, 2 ** (spec.abandoned - 1))
        if not self.closing.wait(pause):
            self.reconcile(spec.name)

    # Terminating.

    def end(self, group, member):
        with changed:
            if member.lifecycle_state.startswith("Terminating"):
                return
            id = member.instance.id
            # A launch hook that holds it is over.
            for action in active.pop(id, []):
                action.result = action.result or "ABANDON"
            changed.notify_all()
            self._set(member, "Terminating")
            actions = self._hold(member, TERMINATING, "Terminating:Wait")
            self._target(id, "Terminated")
            self.start(self._finish, group, member, actions)

    def _finish(self, group, member, actions):
        id = member.instance.id
        result = self._await(id, actions)
        if result is None:
            return
        with changed:
            policy = getattr(group, "instance_lifecycle_policy", None) or {}
            retains = policy.get("RetentionTriggers", {}).get("TerminateHookAbandon") == "retain"
            # What EC2 has terminated meanwhile cannot be kept.
            if result == "ABANDON" and retains and self.ec2_state(id) == "running":
                self._set(member, "Terminating:Retained")
                self.watch(id)
                return
            self._set(member, "Terminating:Proceed")
        self._end_instance(id)

    def _watch(self, instance):
        # Off already, as after a panic: it has not powered itself off.
        if instance.pid is None:
            return
        if power.await_end(power.open_processes({instance.pid: 0}), self.closing) and not instance.is_ending:
            self.record("powered-itself-off", instance.id)
            self._terminate_outside(instance.id, 0)

    def _terminate_outside(self, id, noticed_after):
        self._shut_down(id)
        if self.closing.wait(noticed_after):
            return
        with changed:
            found = self._find(id)
            if not found:
                return
            group, member = found
            member.health_status = "Unhealthy"
            if member.lifecycle_state.startswith("Terminating"):
                # A hook holds it, to its end; retained ones and those that proceed leave the group.
                if not member.lifecycle_state.endswith(":Wait"):
                    self._remove_member(id)
            else:
                self.end(group, member)
            self.reconcile(group.name)

    def _end_instance(self, id):
        self._shut_down(id)
        with changed:
            if self.closing.is_set():
                return
            found = self._find(id)
            self._remove_member(id)
            if found:
                self.reconcile(found[0].name)

    def _shut_down(self, id):
        """Powers the machine off, and ends it in EC2. Nothing, if EC2 has done so."""
        with changed:
            if self.ec2_state(id) in (None, "shutting-down", "terminated"):
                return
            self.aws.set_state(id, "shutting-down")
            self.record("shutting-down", id)
            least = self.random.uniform(*self.shutdown)
        if booting := self._booting.get(id):
            booting.wait()
        started = time.monotonic()
        instance = self.sandbox.instances[id]
        instance.shut_down(self.grace, self.closing)
        self.record("powered-off", id)
        if self.closing.wait(max(0, started + least - time.monotonic())):
            return
        self.sandbox.remove_machine(instance)
        with changed:
            self.aws.end_instance(id)
            self.sandbox.instances.pop(id, None)
            self.aws.forgotten[id] = time.time() + self.forget_after
            self.record("terminated", id)

    # Parts.

    def _find(self, instance):
        for group in list(self.aws.autoscaling.autoscaling_groups.values()):
            for member in list(group.instance_states):
                if member.instance.id == identifier(instance):
                    return group, member
        return None

    def _member(self, instance):
        if found := self._find(instance):
            return found
        raise KeyError(f"no group has {identifier(instance)}")

    def _remove_member(self, id):
        if found := self._find(id):
            group, member = found
            group.instance_states.remove(member)
            self.record("left-group", id, group.name)

    def _hold(self, member, transition, waiting):
        """The actions of the hooks of a transition, which are now active; none, without a hook."""
        hooks = self.aws.autoscaling.describe_lifecycle_hooks(member.auto_scaling_group_name)
        id = member.instance.id
        actions = [LifecycleAction(hook, id) for hook in hooks if hook.lifecycle_transition == transition]
        if actions:
            active[id] = actions
            self._set(member, waiting)
        return actions

    def _await(self, id, actions):
        result = await_result(actions, self.closing)
        with changed:
            for action in actions:
                if action.result:
                    self.record("timed-out" if action.has_timed_out else "completed", id, result=action.result)
        return result

    def _set(self, member, state):
        member.lifecycle_state = state
        self.record(state, member.instance.id, member.auto_scaling_group_name)

    def _target(self, id, state):
        if instance := self.sandbox.instances.get(id):
            instance.metadata.set(TARGET, state)

    def record(self, event, instance=None, group=None, **details):
        with changed:
            self.events.append({"time": time.time(), "event": event, "instance": instance, "group": group, **details})
            changed.notify_all()

    def start(self, function, *arguments):
        def run():
            try:
                function(*arguments)
            except Exception:
                # After the end of the world its threads find nothing.
                if not self.closing.is_set():
                    self.errors.append(traceback.format_exc())

        with changed:
            if not self.closing.is_set():
                thread = threading.Thread(target=run, daemon=True)
                self._threads = [t for t in self._threads if t.is_alive()] + [thread]
                thread.start()

    def clear(self):
        """Ends what is under way; fails if anything of it has failed."""
        with changed:
            self.closing.set()
            changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        errors, self.errors = self.errors, []
        self.groups.clear()
        self.versions.clear()
        self.events.clear()
        active.clear()
        self.shutdown, self.grace, self.forget_after = (1.0, 3.0), 60, 3600
        self.closing.clear()
        if errors:
            raise AssertionError("the lifecycle engine failed:\n" + "\n".join(errors))
