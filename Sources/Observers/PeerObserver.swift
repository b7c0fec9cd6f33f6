package import Base
internal import Consul
internal import Decisions
package import Model

/// Asks other members' agents whether they have a cluster, all at once.
package struct PeerObserver: Sendable {
  private let context: RuntimeContext
  private let httpPort: Int64

  package init(context: RuntimeContext, httpPort: Int64) {
    self.context = context
    self.httpPort = httpPort
  }

  /// Peers are in the same VPC: an answer takes a millisecond, a boot that has not come to its network yet never answers.
  private static let timeout = Duration.seconds(1)
  /// Sockets at a time: more than any group of servers has members.
  private static let width = 64

  package func ask(_ addresses: [IPv4Address]) async -> [IPv4Address: PeerAnswer] {
    await withTaskGroup(of: (IPv4Address, PeerAnswer).self) { group in
      var answers: [IPv4Address: PeerAnswer] = [:]
      for (index, address) in addresses.enumerated() {
        if index >= Self.width, let (address, answer) = await group.next() { answers[address] = answer }
        group.addTask { (address, await ask(address)) }
      }
      for await (address, answer) in group { answers[address] = answer }
      return answers
    }
  }

  private func ask(_ address: IPv4Address) async -> PeerAnswer {
    let client = AgentClient(
      address: "\(address):\(httpPort)", transport: context.transport, timeout: Self.timeout)
    do {
      return .status(try await client.clusterStatus())
    } catch let error as AgentError {
      return .unknown(reason: error.explanation)
    } catch {
      return .unknown(reason: "not asked to the end")
    }
  }
}
