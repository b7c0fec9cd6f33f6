package import AWS
internal import Base
internal import Model

/// Completes the launch hook of this instance.
package struct LifecycleHooks: Sendable {
  private let client: AWSClient
  private let instanceID: String

  package init(client: AWSClient, instanceID: String) {
    self.client = client
    self.instanceID = instanceID
  }

  /// - Throws: `Failure` with status 10, 11 or 12, or `CancellationError`.
  package func complete(_ hook: String, _ result: AutoScaling.LifecycleActionResult) async throws {
    let api = AutoScaling(client: client)
    do {
      guard let group = try await api.groupName(ofInstance: instanceID) else {
        throw Failure(
          .awsFailed, "cannot complete lifecycle hook \(hook): this instance is in no Auto Scaling group",
          hint: "omit --lifecycle-hook")
      }
      try await api.completeLifecycleAction(hook: hook, group: group, instanceID: instanceID, result)
    } catch {
      throw error.asFailure("complete lifecycle hook \(hook)")
    }
  }
}
