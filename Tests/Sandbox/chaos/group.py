"""A cluster whose group is Auto Scaling's: the engine terminates and launches, and a termination hook holds what is to
go until it has left."""

import json
import time

from .. import aws
from ..lifecycle_api import LAUNCHING
from ..refresh import Refresh
from . import history
from .cluster import GROUP, USER_DATA, Chaos

HOOK, LAUNCH_HOOK = "terminating", "launching"
SPOT = "/latest/meta-data/spot/instance-action"


class GroupChaos(Chaos):
    def __init__(self, sandbox, directory, seed, options="", heartbeat=300, **keywords):
        super().__init__(sandbox, directory, seed, options=f"--termination-hook {HOOK} {options}", **keywords)
        # Those that the group terminates, to their end.
        self.leaving = []
        self.engine, self.heartbeat = sandbox.lifecycle, heartbeat
        # Those of this datacenter's servers.
        self.groups = [GROUP]
        # All times of the engine are those of the wall clock.
        self.offset = time.monotonic() - time.time()

    def _prepare(self):
        self._manage(GROUP, self.user_data)

    def _manage(self, group, user_data):
        self.engine.manage(group, user_data, **self.machine)
        self.engine.put_hook(group, heartbeat=self.heartbeat, name=HOOK)
        if "--lifecycle-hook" in user_data:
            self.engine.put_hook(group, LAUNCHING, heartbeat=self.heartbeat, name=LAUNCH_HOOK)
        self.engine.retain(group)

    # The groups.

    def follow(self):
        """Takes over what the engine has launched and terminated."""
        before = self.members()
        self.servers = self._of_all_groups("Pending", "InService")
        self.leaving = [member for member in self._of_all_groups("") if member not in self.servers]
        if self.members() != before:
            self._retarget()

    def _of_all_groups(self, *states):
        return [member for group in self.groups for member in self.engine.members(group, *states)]

    def members(self):
        return [*self.servers, *self.leaving]

    def _retarget(self):
        super()._retarget()
        self.sampler.tell(targets=self._targets(self.members()))

    def is_settled(self):
        self.follow()
        # A hook holds the entry of a machine that EC2 has ended, too, to its time-out.
        wanted = sum(self.sandbox.aws.group(group).desired_capacity for group in self.groups)
        return len(self.servers) == wanted and not self.leaving and super().is_settled()

    def have_left(self, *members):
        """By the configuration of the leader."""
        self.follow()
        voters = self.voters()
        return voters and not voters & {member.address for member in members}

    # What happens to it.

    def scale(self, desired, group=GROUP):
        with self.event(f"desired {desired} of {group}"):
            self.engine.set_desired(group, desired)

    def create_group(self, group, count, user_data):
        """A second group, which launches its servers."""
        self.sandbox.aws.create_group(group)
        self._manage(group, user_data)
        self.groups.append(group)
        self.scale(count, group)

    def delete_group(self, group):
        with self.event(f"delete {group}"):
            self.groups.remove(group)
            self.sandbox.aws.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=group)

    def terminate_in_group(self, *members, decrement=False):
        with self.event("terminate in group", *members):
            for member in members:
                self.engine.terminate_in_group(member, decrement)

    def spot(self, *members, seconds=120):
        """EC2 takes them back at the end of this time."""
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        with self.event("spot notice", *members):
            for member in members:
                member.metadata.set(SPOT, json.dumps({"action": "terminate", "time": ends}))

    def end_by_ec2(self, *members):
        """The group notices, and replaces them."""
        with self.event("end by EC2", *members):
            for member in members:
                self.engine.terminate(member)

    def panic(self, *members):
        """Without replacements: the group wants that many fewer."""
        super().panic(*members)
        self.sandbox.aws.set_desired(GROUP, self.sandbox.aws.group(GROUP).desired_capacity - len(members))

    def vanish(self, *members):
        """They are gone, while EC2 reports them as running."""
        with self.event("vanish", *members, stops=True):
            for member in members:
                self.sandbox.vanish(member)

    def aws_away(self):
        with self.event("AWS away"):
            self.fault = self.sandbox.faults.aws("5xx")

    def aws_back(self):
        with self.event("AWS back"):
            self.sandbox.faults.end_aws(self.fault)

    def unhealthy(self, *members):
        """A failed health check: the maintenance policy decides whether the replacement launches first."""
        with self.event("unhealthy", *members):
            for member in members:
                self.engine.unhealthy(member)

    def refresh(self, user_data=None, **preferences):
        """A new template, whose instances a launch hook holds until they are healthy.

        - user_data: of the new template; of the old one, with the hook, without any."""
        for member in self.servers:
            self.engine.versions.setdefault(member.id, 1)
        if "--lifecycle-hook" not in self.user_data:
            self.engine.put_hook(GROUP, LAUNCHING, heartbeat=self.heartbeat, name=LAUNCH_HOOK)
            user_data = user_data or self.user_data.rstrip("\n") + f" --lifecycle-hook {LAUNCH_HOOK}\n"
        with self.event("instance refresh"):
            return Refresh(self.engine, GROUP, user_data or self.user_data, **preferences)

    def results(self, *members, hook=None):
        """Of the hooks of these instances; of all, without any."""
        ids = {member.id for member in members}
        actions = [a for a in aws.lifecycle_actions if a.get("result") and hook in (None, a["hook"])]
        return [action["result"] for action in actions if not ids or action["instance"] in ids]

    def finish(self, name, limits=None, is_whole=True, readers=()):
        for event in self.engine.events:
            at = event["time"] + self.offset
            self.events.append(history.Event(at, at, event["event"], event["instance"] or ""))
        self.events.sort(key=lambda event: event.begun)
        return super().finish(name, limits, is_whole, readers)


class PlainGroup(GroupChaos):
    """The same machines with Consul alone: no hook, and an agent that leaves when the machine is shut down."""

    def __init__(self, sandbox, directory, seed, options="", **keywords):
        super().__init__(sandbox, directory, seed, **keywords)
        configure = f"consul-bootstrap --expect {self.count} --start none --set leave_on_terminate=true {options}"
        self.user_data = f"#!/bin/sh\n{configure} || exit\nexec consul agent -config-dir=/etc/consul.d\n"

    def _prepare(self):
        self.engine.manage(GROUP, self.user_data)


class FormerGroup(PlainGroup):
    """The same machines with a release of the program that has no `--termination-hook`."""

    def __init__(self, sandbox, directory, seed, options="", **keywords):
        super().__init__(sandbox, directory, seed, **keywords)
        self.user_data = USER_DATA.format(expect=self.count, options=options)
