package import Base
internal import Consul
internal import Decisions
package import Model

/// Queries the servers on other members for the state of their cluster, concurrently: over raft's own port, which
/// servers must reach anyway, then over HTTP, which members of an older version open on the private address.
package struct PeerObserver: Sendable {
  private let raftPort: RaftPortObserver
  private let settings: Settings
  private let transport: any HTTPTransport

  /// - Parameter observation: its secrets hold the certificate of this server, with which it asks.
  package init(_ observation: Observation, settings: Settings, context: RuntimeContext) {
    self.settings = settings
    transport = context.transport
    raftPort = RaftPortObserver(
      observation.identity, secrets: observation.secrets, settings: settings, context: context)
  }

  /// As the agent that runs with the configuration on disk.
  package init(_ current: CurrentConfiguration, settings: Settings, context: RuntimeContext) {
    self.settings = settings
    transport = context.transport
    raftPort = RaftPortObserver(current, settings: settings, context: context)
  }

  /// Where raft's port gave no answer, HTTP rarely does, and a firewall may drop its packets: a second for both.
  private static let httpTimeout = Duration.milliseconds(250)
  /// Maximum number of concurrent queries: more than a group of servers has members.
  private static let width = 64

  /// - Returns: an answer for each address; a server that does not answer is unknown.
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
    do {
      let error: RaftPortError
      do {
        return .status(try await raftPort.clusterStatus(of: address))
      } catch let failure as RaftPortError {
        error = failure
      }
      return try await askHTTP(address, after: error)
    } catch is CancellationError {
      return .unknown(reason: "the query was cancelled")
    } catch {
      return .unknown(reason: error.explained)
    }
  }

  /// - Parameter error: why raft's port gave no answer.
  private func askHTTP(_ address: IPv4Address, after error: RaftPortError) async throws -> PeerAnswer {
    let unknown = PeerAnswer.unknown(reason: "port \(settings.serverPort): \(error.explanation)")
    let refused = error == .stream(.refused) ? PeerAnswer.refused : unknown
    guard settings.httpPort > 0 else { return refused }
    let client = AgentClient(
      address: "\(address):\(settings.httpPort)", transport: transport, timeout: Self.httpTimeout)
    do {
      return .status(try await client.clusterStatus())
    } catch AgentError.transport(.refused), AgentError.transport(.timedOut(whileConnecting: true)) {
      return refused
    } catch let second as AgentError {
      // Something runs there: it may be an agent whose server does not listen yet.
      guard refused == .refused else { return unknown }
      return .unknown(reason: "HTTP API: \(second.explanation)")
    }
  }
}
