package import Base
internal import Consul
internal import Decisions
package import Model

/// Queries the agents of other members for the state of their cluster, concurrently.
package struct PeerObserver: Sendable {
  private let context: RuntimeContext
  private let httpPort: Int64

  package init(context: RuntimeContext, httpPort: Int64) {
    self.context = context
    self.httpPort = httpPort
  }

  /// Peers are in the same VPC: an answer takes a millisecond, and an instance that has no network yet never answers.
  private static let timeout = Duration.seconds(1)
  /// Maximum number of concurrent queries: more than a group of servers has members.
  private static let width = 64

  /// - Returns: an answer for each address; an agent that does not answer is unknown.
  package func query(_ addresses: [IPv4Address]) async -> [IPv4Address: PeerAnswer] {
    await withTaskGroup(of: (IPv4Address, PeerAnswer).self) { group in
      var answers: [IPv4Address: PeerAnswer] = [:]
      for (index, address) in addresses.enumerated() {
        if index >= Self.width, let (address, answer) = await group.next() { answers[address] = answer }
        group.addTask { (address, await query(address)) }
      }
      for await (address, answer) in group { answers[address] = answer }
      return answers
    }
  }

  private func query(_ address: IPv4Address) async -> PeerAnswer {
    let client = AgentClient(
      address: "\(address):\(httpPort)", transport: context.transport, timeout: Self.timeout)
    do {
      return .status(try await client.clusterStatus())
    } catch AgentError.transport(.refused) {
      return .refused
    } catch is CancellationError {
      return .unknown(reason: "the query was cancelled")
    } catch {
      return .unknown(reason: error.explained)
    }
  }
}
