internal import Base

/// What bounds a lifecycle hook, of a launch or a termination.
package struct HookTimeouts: Sendable, Equatable {
  /// Seconds without a heartbeat.
  package let heartbeat: Int
  /// Seconds in all; nil where AWS does not say.
  package let global: Int?

  /// 48 hours, or 100 times the time-out without a heartbeat, whichever is shorter (API reference, PutLifecycleHook).
  package var longest: Int { global ?? min(172_800, heartbeat.saturatingMultiplied(by: 100)) }

  package init(heartbeat: Int, global: Int?) {
    self.heartbeat = heartbeat
    self.global = global
  }
}

extension AutoScaling {
  /// Nil if the group has no such hook.
  package func timeouts(ofHook hook: String, group: String) async throws -> HookTimeouts? {
    try await client.query(
      .describeLifecycleHooks, [("AutoScalingGroupName", group), ("LifecycleHookNames.member.1", hook)]
    ) { root in
      let result = try root.requiredChild("DescribeLifecycleHooksResult", of: root.name)
      return try result.requiredList("LifecycleHooks", of: root.name).first.map { element in
        HookTimeouts(
          heartbeat: try element.requiredCount("HeartbeatTimeout", of: "lifecycle hook \(hook)"),
          global: element["GlobalTimeout"] == nil
            ? nil : try element.requiredCount("GlobalTimeout", of: "lifecycle hook \(hook)"))
      }
    }
  }
}

extension AWSError {
  /// Auto Scaling's answer where no hook holds the instance.
  package var isWithoutAction: Bool {
    code == "ValidationError" && message?.contains("No active Lifecycle Action") == true
  }
}
