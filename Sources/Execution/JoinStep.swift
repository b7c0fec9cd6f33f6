internal import Base
internal import Consul

extension StepExecutor {
  /// Of one request: a server that is gone takes a dial's timeout (memberlist, `TCPTimeout`).
  private static let joinTimeout = Duration.seconds(10)

  /// A server that cannot be joined is logged: verification decides whether the agent needs it.
  /// - Returns: whether the agent has joined one.
  /// - Throws: `CancellationError`.
  func join(_ servers: [IPv4Address], agentAt address: String, token: Secret?) async throws -> Bool {
    let client = AgentClient(
      address: address, token: token, transport: context.transport, timeout: Self.joinTimeout)
    var known: Set<IPv4Address> = []
    do {
      known = Set(try await client.members(wan: false).filter(\.isAlive).compactMap(\.address))
    } catch let error as AgentError {
      context.log.debug("the agent does not list its members", ["reason": .string(error.explanation)])
    }
    let missing = servers.filter { !known.contains($0) }
    return await withTaskGroup(of: Bool.self) { group in
      for server in missing { group.addTask { await join(server, client) } }
      return await group.reduce(false) { $0 || $1 }
    }
  }

  private func join(_ server: IPv4Address, _ client: AgentClient) async -> Bool {
    do {
      try await client.join(server, wan: false)
      return true
    } catch {
      if !Task.isCancelled {
        context.log.warning("cannot join the agent to \(server)", ["reason": .string(error.explained)])
      }
      return false
    }
  }
}
