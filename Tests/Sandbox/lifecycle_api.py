"""Lifecycle hooks and group policies as the Auto Scaling API has them: what moto lacks of them.

moto stores hooks and nothing more. Here they have AWS's global timeout, their actions can be recorded and completed,
and a group keeps its instance lifecycle policy and its instance maintenance policy.
"""

import threading
import time
import uuid

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import LifecycleHook
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import EmptyResult

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
# The API reference of PutLifecycleHook: 48 hours or 100 times the heartbeat timeout, whichever is smaller.
LONGEST_WAIT = 48 * 3600
HEARTBEATS = 100
# Members of the requests that create and update a group, which moto does not read.
POLICIES = {
    "InstanceLifecyclePolicy": "instance_lifecycle_policy",
    "InstanceMaintenancePolicy": "instance_maintenance_policy",
}

# Completed actions, in order: hook, group, instance, result, and the time.
lifecycle_actions = []
# Guards the actions; notified whenever one was recorded or completed.
changed = threading.Condition(threading.RLock())
# The last actions of each instance that a hook of the engine held, by instance id: active until they have a result.
active = {}


class LifecycleAction:
    """One hook that holds one instance. `result` is None until it is completed or has timed out."""

    def __init__(self, hook, instance):
        self.hook, self.instance = hook, instance
        self.token = str(uuid.uuid4())
        self.started = time.monotonic()
        self.heartbeats = []
        self.result = None
        self.has_timed_out = False

    @property
    def deadline(self):
        last = self.heartbeats[-1] if self.heartbeats else self.started
        return min(last + self.hook.heartbeat_timeout, self.started + self.hook.global_timeout)

    def expire(self, now):
        if self.result is None and now >= self.deadline:
            self.result, self.has_timed_out = self.hook.default_result, True


def await_result(actions, cancelled):
    """Waits until every action has a result, or one is abandoned; returns `CONTINUE`, `ABANDON`, or None if it was
    cancelled."""
    with changed:
        while True:
            now = time.monotonic()
            for action in actions:
                action.expire(now)
            if cancelled.is_set():
                return None
            if any(action.result == "ABANDON" for action in actions):
                return "ABANDON"
            pending = [action for action in actions if action.result is None]
            if not pending:
                return "CONTINUE"
            changed.wait(min(action.deadline for action in pending) - now)


def active_action(response):
    """The action that a request names. None where a test has set the waiting state by hand, without a hook."""
    id, token = response._get_param("InstanceId"), response._get_param("LifecycleActionToken")
    group, hook = response._get_param("AutoScalingGroupName"), response._get_param("LifecycleHookName")
    named = f"token {token}" if token else f"instance ID {id}"
    groups = response.autoscaling_backend.autoscaling_groups
    if group not in groups:
        raise ValidationError(f"AutoScalingGroup name not found - no such group: {group}")
    for action in [action for held in active.values() for action in held]:
        action.expire(time.monotonic())
        is_named = action.token == token if token else action.instance == id
        is_of_hook = (action.hook.name, action.hook.auto_scaling_group_name) == (hook, group)
        if is_named and is_of_hook and action.result is None:
            return action
    by_hand = [member for member in groups[group].instance_states if member.instance.id == id and id not in active]
    if token or not any(member.lifecycle_state.endswith(":Wait") for member in by_hand):
        raise ValidationError(f"No active Lifecycle Action found with {named}")
    return None


def record_lifecycle_action_heartbeat(self):
    with changed:
        if action := active_action(self):
            action.heartbeats.append(time.monotonic())
            changed.notify_all()
    return EmptyResult()


def complete_lifecycle_action(self):
    with changed:
        action = active_action(self)
        result = self._get_param("LifecycleActionResult")
        lifecycle_actions.append(
            {
                "hook": self._get_param("LifecycleHookName"),
                "group": self._get_param("AutoScalingGroupName"),
                "instance": action.instance if action else self._get_param("InstanceId"),
                "result": result,
                "time": time.time(),
            }
        )
        if action:
            action.result = result
            changed.notify_all()
    return EmptyResult()


def keep_policies(original):
    def method(self):
        answer = original(self)
        group = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        for parameter, attribute in POLICIES.items():
            if policy := self._get_param(parameter):
                setattr(group, attribute, policy)
        return answer

    return method


create_hook = LifecycleHook.__init__


def create_hook_with_its_timeout(self, *arguments, **keywords):
    create_hook(self, *arguments, **keywords)
    self.global_timeout = min(LONGEST_WAIT, HEARTBEATS * self.heartbeat_timeout)
    # Optional, and fixed values of moto's.
    self.role_arn = self.notification_target_arn = None


LifecycleHook.__init__ = create_hook_with_its_timeout
AutoScalingResponse.complete_lifecycle_action = complete_lifecycle_action
AutoScalingResponse.record_lifecycle_action_heartbeat = record_lifecycle_action_heartbeat
AutoScalingResponse.create_auto_scaling_group = keep_policies(AutoScalingResponse.create_auto_scaling_group)
AutoScalingResponse.update_auto_scaling_group = keep_policies(AutoScalingResponse.update_auto_scaling_group)
