internal import Base
internal import Consul
internal import Model

/// The step that applies autopilot options to a cluster that exists.
extension StepExecutor {
  private static let autopilotTimeout = Duration.seconds(10)
  /// Each attempt fails only if another program has changed the configuration since the read before it.
  private static let autopilotAttempts = 3

  /// Compares with the cluster's configuration and changes what differs, so that a repetition changes nothing.
  func apply(_ change: AutopilotChange) async throws -> Bool {
    let client = AgentClient(
      address: change.agentAddress, token: change.token, transport: context.transport, timeout: Self.autopilotTimeout)
    do {
      for _ in 0..<Self.autopilotAttempts {
        let present = try await client.autopilotConfiguration()
        let different = change.values.filter { present.document[$0.key] != $0.value }
        guard !different.isEmpty else { return false }
        let document = different.reduce(present.document) { $0.merging(.object([$1.key: $1.value])) }
        guard try await client.setAutopilotConfiguration(.init(document: document, index: present.index)) else {
          continue
        }
        for value in different {
          context.log.info(
            "set autopilot's \(value.key) of the cluster",
            ["from": present.document[value.key] ?? .null, "to": value.value, "option": .string("--\(value.option)")])
        }
        return true
      }
    } catch let error as AgentError {
      throw Failure(
        .agentUnhealthy, "cannot apply \(options(change))", details: [error.explanation], hint: hint(for: error))
    }
    throw Failure(
      .agentUnhealthy, "cannot apply \(options(change))",
      details: ["another program changed autopilot's configuration \(Self.autopilotAttempts) times meanwhile"],
      hint: "run consul-bootstrap again")
  }

  private func options(_ change: AutopilotChange) -> String {
    change.values.map { "--\($0.option)" }.joined(separator: ", ")
  }

  private func hint(for error: AgentError) -> String {
    if case .refused(status: 403, _) = error {
      return "an existing cluster takes them through the operator API only: give the agent's token operator:write, or "
        + "use consul operator autopilot set-config"
    }
    return "an existing cluster takes them through the operator API only: run consul-bootstrap again, or use consul "
      + "operator autopilot set-config"
  }
}
