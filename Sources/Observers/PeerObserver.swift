package import Base
internal import Consul
internal import Decisions
package import Model

/// Queries the servers on other members for the state of their cluster, concurrently: over raft's own port, which
/// servers must reach anyway, then over HTTP, which members of an older version open on the private address.
package struct PeerObserver: Sendable {
  private let context: RuntimeContext
  private let settings: Settings
  /// Nil without TLS.
  private let tls: Result<TLSClient, RaftPortError>?

  /// - Parameter observation: its secrets hold the certificate of this server, with which it asks.
  package init(_ observation: Observation, settings: Settings, context: RuntimeContext) {
    self.context = context
    self.settings = settings
    do {
      tls = try settings.raftPortTLS(observation, context.files).map { .success($0) }
    } catch {
      tls = .failure(.stream(.local(error.explained)))
    }
  }

  /// Peers are in the same VPC: an answer takes a millisecond, and an instance that has no network yet never answers.
  private static let timeout = Duration.milliseconds(750)
  /// Where raft's port gave no answer, HTTP rarely does, and a firewall may drop its packets: a second for both.
  private static let secondTimeout = Duration.milliseconds(250)
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
        return .status(try await askRaftPort(address))
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

  /// A server that verifies incoming connections closes one in plain text; then it is asked by TLS, if this server has
  /// a certificate. Where the agents speak TLS only to each other, so does this.
  private func askRaftPort(_ address: IPv4Address) async throws -> ClusterStatus {
    let plain = port(address, tls: nil)
    guard let tls else { return try await plain.clusterStatus() }
    if settings.verifiesOutgoing { return try await port(address, tls: try tls.get()).clusterStatus() }
    do {
      return try await plain.clusterStatus()
    } catch RaftPortError.stream(.closed) {
      return try await port(address, tls: try tls.get()).clusterStatus()
    }
  }

  private func port(_ address: IPv4Address, tls: TLSClient?) -> RaftPort {
    RaftPort(
      address: address, port: settings.serverPort, tls: tls, transport: context.streams, timeout: Self.timeout)
  }

  /// - Parameter error: why raft's port gave no answer.
  private func askHTTP(_ address: IPv4Address, after error: RaftPortError) async throws -> PeerAnswer {
    let unknown = PeerAnswer.unknown(reason: "port \(settings.serverPort): \(error.explanation)")
    let refused = error == .stream(.refused) ? PeerAnswer.refused : unknown
    guard settings.httpPort > 0 else { return refused }
    let client = AgentClient(
      address: "\(address):\(settings.httpPort)", transport: context.transport, timeout: Self.secondTimeout)
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

extension Settings {
  /// Consul's `verify_outgoing`, as the configuration has it.
  fileprivate var verifiesOutgoing: Bool { tls.ca != nil && (tls.verifyOutgoing ?? true) }

  /// - Returns: nil unless this server has CA, certificate and key.
  /// - Throws: `FileError`, or `Failure` if the datacenter has no name.
  fileprivate func raftPortTLS(_ observation: Observation, _ files: any FileReader) throws -> TLSClient? {
    let secrets = observation.secrets
    guard let ca = secrets.ca, let certificate = secrets.cert, let key = secrets.key else { return nil }
    let domain = overlays.reduce("consul") { domain, overlay in overlay.value["domain"]?.string ?? domain }
    return TLSClient(
      ca: try ca.text(files), certificate: try certificate.text(files), key: try key.text(files),
      serverName: "server.\(try datacenterName(for: observation.identity)).\(domain)",
      verifiesName: tls.verifyServerHostname ?? isProduction)
  }
}

extension Secrets.TLSMaterial {
  /// A certificate with its chain has some 10 KB.
  fileprivate func text(_ files: any FileReader) throws(FileError) -> Secret {
    switch self {
    case .pem(let secret): secret
    case .file(let path): Secret(String(decoding: try files.read(path, limit: 1 << 20), as: UTF8.self))
    }
  }
}
