package import Base
package import Consul
package import Model

/// Asks servers over raft's own port, as this server's agent would: by TLS where it has a certificate.
package struct RaftPortObserver: Sendable {
  private let settings: Settings
  private let transport: any StreamTransport
  /// Nil without TLS.
  private let tls: Result<TLSClient, RaftPortError>?

  /// Peers are in the same VPC: an answer takes a millisecond, and an instance that has no network yet never answers.
  private static let timeout = Duration.milliseconds(750)

  /// - Parameter secrets: with the certificate of this server.
  package init(_ identity: Identity, secrets: Secrets, settings: Settings, context: RuntimeContext) {
    self.init({ try settings.datacenterName(for: identity) }, secrets, settings, context)
  }

  /// As the agent that runs with the configuration on disk.
  package init(_ current: CurrentConfiguration, settings: Settings, context: RuntimeContext) {
    let datacenter = current.document?["datacenter"]?.string ?? settings.datacenter
    self.init({ datacenter }, Secrets(tlsOnDisk: settings), settings, context)
  }

  private init(
    _ datacenter: () throws -> String, _ secrets: Secrets, _ settings: Settings, _ context: RuntimeContext
  ) {
    self.settings = settings
    transport = context.streams
    do {
      tls = try settings.raftPortTLS(datacenter, secrets, context.files).map { .success($0) }
    } catch {
      tls = .failure(.stream(.local(error.explained)))
    }
  }

  /// A server that verifies incoming connections closes one in plain text; then it is asked by TLS, if this server has
  /// a certificate. Where the agents speak TLS only to each other, so does this.
  /// - Throws: `RaftPortError`, or `CancellationError`.
  package func clusterStatus(of address: IPv4Address) async throws -> ClusterStatus {
    try await ask(address) { try await $0.clusterStatus() }
  }

  /// The identity of the cluster whose leader this server knows; nil if there is none.
  /// - Parameter current: with the datacenter and the token of the agent.
  /// - Throws: `RaftPortError`, or `CancellationError`.
  package func clusterIdentity(
    of address: IPv4Address, _ current: CurrentConfiguration
  ) async throws -> ClusterIdentity? {
    let datacenter = current.merged["datacenter"]?.string ?? settings.datacenter
    return try await ask(address) { port in
      try await port.clusterIdentity(datacenter: datacenter, token: current.agentToken)
    }
  }

  private func ask<Answer>(
    _ address: IPv4Address, _ question: (RaftPort) async throws -> Answer
  ) async throws -> Answer {
    let plain = port(address, tls: nil)
    guard let tls else { return try await question(plain) }
    if settings.verifiesOutgoing { return try await question(port(address, tls: try tls.get())) }
    do {
      return try await question(plain)
    } catch RaftPortError.stream(.closed) {
      return try await question(port(address, tls: try tls.get()))
    }
  }

  private func port(_ address: IPv4Address, tls: TLSClient?) -> RaftPort {
    RaftPort(address: address, port: settings.serverPort, tls: tls, transport: transport, timeout: Self.timeout)
  }
}

extension Settings {
  /// Consul's `verify_outgoing`, as the configuration has it.
  fileprivate var verifiesOutgoing: Bool {
    tls.ca == nil ? inheritedTLS.verifiesOutgoing ?? false : tls.verifyOutgoing ?? true
  }

  /// - Returns: nil unless this server has CA, certificate and key.
  /// - Throws: `FileError`, or `Failure` if the datacenter has no name.
  fileprivate func raftPortTLS(
    _ datacenter: () throws -> String, _ secrets: Secrets, _ files: any FileReader
  ) throws -> TLSClient? {
    let other = inheritedTLS
    guard let ca = secrets.ca ?? other.ca.map({ .file(path: $0) }),
      let certificate = secrets.cert ?? other.cert.map({ .file(path: $0) }),
      let key = secrets.key ?? other.key.map({ .file(path: $0) })
    else { return nil }
    return TLSClient(
      ca: try ca.text(files), certificate: try certificate.text(files), key: try key.text(files),
      serverName: "server.\(try datacenter()).\(other.domain ?? "consul")",
      verifiesName: tls.ca == nil
        ? other.verifiesServerHostname ?? isProduction : tls.verifyServerHostname ?? isProduction)
  }
}

extension Secrets {
  /// Certificates and key where the agent reads them: those from a secret store are in the TLS directory.
  init(tlsOnDisk settings: Settings) {
    func material(_ reference: SecretReference?, _ name: String) -> TLSMaterial? {
      guard let reference else { return nil }
      if case .file(let path) = reference { return .file(path: path) }
      return .file(path: "\(settings.tlsDirectory)/\(name).pem")
    }
    self.init()
    ca = material(settings.tls.ca, "ca")
    cert = material(settings.tls.cert, "cert")
    key = material(settings.tls.key, "key")
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
