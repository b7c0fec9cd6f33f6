"""False answers of EC2 and Auto Scaling about the state of instances, each of them named.

`sandbox.aws.lies.tell(kind, instance, source)` begins one and returns it; `withdraw(lie)` ends it, `clear()` all.

| Kind | What the APIs answer |
|---|---|
| `terminated` | EC2: a running instance is terminated |
| `running` | EC2: a dead instance is running |
| `empty` | EC2: no instance at all |
| `other-region` | EC2: the instances of another region, of other ids |
| `not-found` | EC2: does not know an instance that runs |
| `forgotten` | EC2: does not know an instance that is dead, as an hour after its end |
| `own-missing` | EC2: does not know the instance that asks |
| `reused` | no false answer: `reuse(sandbox, dead)` launches an instance with the address of a dead one |
| `in-service` | Auto Scaling: a dead instance is in service |

- instance: an `Instance`, or its id; not for `empty`, `other-region` and `own-missing`.
- source: the address of the one instance that gets the answer; every instance, without it. A test's own calls get the
  truth, and so does the lifecycle engine.
"""

import copy

from moto.autoscaling.models import InstanceState as Member
from moto.ec2.models.instances import InstanceState
from moto.ec2.utils import filter_reservations

KINDS = (
    "terminated",
    "running",
    "empty",
    "other-region",
    "not-found",
    "forgotten",
    "own-missing",
    "reused",
    "in-service",
)
OF_ALL = ("empty", "other-region", "own-missing")


class Lie:
    def __init__(self, kind, instance, source):
        self.kind, self.instance, self.source = kind, instance, source


class Lies:
    def __init__(self, aws, asking):
        """
        - asking: the address from which the call comes that is answered now; None for the truth."""
        self.aws, self.asking = aws, asking
        self.told = []
        self._answer_falsely()

    def tell(self, kind, instance=None, source=None):
        if kind not in KINDS or kind == "reused":
            raise ValueError(kind)
        id = instance if instance is None or isinstance(instance, str) else instance.id
        if (id is None) != (kind in OF_ALL):
            raise ValueError(f"{kind}: of which instance?")
        self.told.append(Lie(kind, id, source))
        return self.told[-1]

    def withdraw(self, lie):
        self.told.remove(lie)

    def clear(self):
        self.told.clear()

    def _of_now(self):
        asking = self.asking()
        return [lie for lie in list(self.told) if asking and lie.source in (None, asking)]

    def _answer_falsely(self):
        ec2, autoscaling = self.aws.ec2, self.aws.autoscaling
        reservations, groups = ec2.all_reservations, autoscaling.describe_auto_scaling_groups
        members = autoscaling.describe_auto_scaling_instances

        def all_reservations(filters=None):
            told = self._of_now()
            if not told:
                return reservations(filters)
            found = self._false_reservations(reservations(), told)
            return found if filters is None else filter_reservations(found, filters)

        def describe_auto_scaling_groups(*arguments, **keywords):
            found = groups(*arguments, **keywords)
            return [self._false_group(group, self._ghosts(group)) for group in found]

        def describe_auto_scaling_instances(instance_ids):
            found = members(instance_ids)
            ghosts = [ghost for group in autoscaling.autoscaling_groups.values() for ghost in self._ghosts(group)]
            ghosts = {g.instance_id: g for g in ghosts if not instance_ids or g.instance_id in instance_ids}
            return [member for member in found if member.instance_id not in ghosts] + list(ghosts.values())

        ec2.all_reservations = all_reservations
        autoscaling.describe_auto_scaling_groups = describe_auto_scaling_groups
        autoscaling.describe_auto_scaling_instances = describe_auto_scaling_instances

    # EC2.

    def _false_reservations(self, reservations, told):
        kinds = {lie.kind for lie in told}
        if "empty" in kinds:
            return []
        # What EC2 has forgotten may still be running, as it says.
        listed = {instance.id for reservation in reservations for instance in reservation.instances}
        for reservation in self.aws.ec2.reservations.copy().values():
            for instance in reservation.instances:
                if instance.id not in listed and ("running", instance.id) in {(lie.kind, lie.instance) for lie in told}:
                    reservations.append(copy.copy(reservation))
        for reservation in reservations:
            instances = [self._false_instance(instance, told) for instance in reservation.instances]
            reservation.instances = [instance for instance in instances if instance]
        return [reservation for reservation in reservations if reservation.instances]

    def _false_instance(self, instance, told):
        for lie in told:
            if lie.kind == "own-missing" and instance.private_ip == self.asking() and instance.state == "running":
                return None
            if lie.kind == "other-region":
                instance = foreign(instance)
            if lie.instance == instance.id:
                if lie.kind in ("not-found", "forgotten"):
                    return None
                if lie.kind in ("terminated", "running"):
                    instance = copy.copy(instance)
                    instance._state = InstanceState(lie.kind, 48 if lie.kind == "terminated" else 16)
        return instance

    # Auto Scaling.

    def _ghosts(self, group):
        """Members that the group says it has in service."""
        dead = [lie.instance for lie in self._of_now() if lie.kind == "in-service"]
        found = {i.id: i for r in self.aws.ec2.reservations.copy().values() for i in r.instances}
        return [
            Member(found[id], autoscaling_group=group)
            for id in dead
            if getattr(found[id], "autoscaling_group", None) is group
        ]

    def _false_group(self, group, ghosts):
        if not ghosts:
            return group
        ids = {ghost.instance_id for ghost in ghosts}
        group = copy.copy(group)
        group.instance_states = [m for m in group.instance_states if m.instance.id not in ids] + ghosts
        return group


def foreign(instance):
    """An instance of another region in its place."""
    found = copy.copy(instance)
    found.id = "i-" + instance.id[2:][::-1]
    found._placement = copy.copy(instance.placement)
    found._placement.zone = "us-east-1" + instance.placement.zone[-1]
    found._state = InstanceState("running", 16)
    return found


def reuse(sandbox, dead, **launch):
    """Launches an instance at the address of one that is dead."""
    return sandbox.launch(zone=dead.zone, address=dead.address, **launch)
