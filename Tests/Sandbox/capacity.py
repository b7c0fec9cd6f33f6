"""How many instances a group should have, where the next one goes, and which one goes first."""

import collections
import math

# States that count towards the desired capacity.
COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")


class ManagedGroup:
    """What a group launches, and what the engine is about to do with it."""

    def __init__(self, name, user_data, launch):
        self.name, self.user_data, self.launch = name, user_data, launch
        # Of the launch template; a refresh raises it.
        self.version = 1
        # Zones of the launches that the group does not list yet.
        self.launching = []
        # Instances that a refresh launches above the desired capacity.
        self.surge = 0
        # Unhealthy ones that wait for their replacements.
        self.replacing = []
        # Launches in a row that were abandoned; and all of them by version.
        self.abandoned = 0
        self.failures = collections.Counter()


def healthy_counts(desired, policy):
    """The least and the most instances of a maintenance policy. There is always room to replace one."""
    policy = policy or {}
    least = math.ceil(desired * policy.get("MinHealthyPercentage", 0) / 100)
    most = math.floor(desired * policy.get("MaxHealthyPercentage", 100) / 100)
    if policy.get("MaxHealthyPercentage", 100) > 100:
        most = max(most, desired + 1)
    return (least if most > desired else min(least, desired - 1)), most


def emptiest_zone(zones, members, launching):
    held = [member.availability_zone for member in members if member.lifecycle_state in COUNTED]
    return min(zones, key=(held + launching).count)


def first_to_go(members, versions, current):
    """One that is not in service yet; else, as by the default termination policy, of the zone that has most the one
    with another template, or the oldest.

    - versions: of the templates, by instance; `current` is the group's."""
    if pending := [member for member in members if member.lifecycle_state != "InService"]:
        return pending[-1]
    zones = [member.availability_zone for member in members]
    most = max(map(zones.count, zones))
    return min(
        (member for member in members if zones.count(member.availability_zone) == most),
        key=lambda member: (versions.get(member.instance.id) == current, members.index(member)),
    )
