internal import Base
internal import Consul
internal import Decisions
internal import Model
internal import Observers

/// Probes the ports of the peers: open, refused (no listener yet), or filtered on the way.
struct PeerChecks: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let identity: Identity
  /// With the certificate of this server.
  let secrets: Secrets
  /// What the agent uses, or will use.
  let configuration: MergedConfiguration
  let report: @Sendable (Finding) -> Void

  /// In the VPC an answer takes a millisecond.
  private static let timeout = Duration.seconds(1)
  /// A large fleet needs no probe of every peer: the security group that filters one filters all.
  private static let maximumPeers = 25
  /// A datagram may be lost, and Linux limits its refusals to one machine to one a second (`icmp_ratelimit`).
  private static let udpAttempts = 3

  private struct Port: Sendable {
    let number: Int64
    let name: String
    let isUDP: Bool

    var text: String { "\(number) \(isUDP ? "udp" : "tcp")" }
  }

  private struct Probe: Sendable {
    let address: IPv4Address
    let port: Port
    /// By a call of Consul's RPC, as a run does, not by a connection only.
    var asksServer = false
  }

  private struct ProbedPort: Sendable {
    let port: Port
    let result: ProbeResult
    /// Why the server that listens there gives no answer; nil if it does, or was not asked.
    var failure: String?
  }

  func ports(_ readiness: Readiness) async {
    let probes = probes(readiness)
    guard !probes.isEmpty else { return report(.note("peers", "no peers to probe yet")) }
    let results = await withTaskGroup(of: (Int, ProbedPort).self) { group in
      for (index, probe) in probes.enumerated() { group.addTask { (index, await result(of: probe)) } }
      var results = probes.map { ProbedPort(port: $0.port, result: .silent) }
      for await (index, result) in group { results[index] = result }
      return results
    }
    var peers: [(address: IPv4Address, ports: [ProbedPort])] = []
    for (probe, result) in zip(probes, results) {
      if peers.last?.address != probe.address { peers.append((probe.address, [])) }
      peers[peers.count - 1].ports.append(result)
    }
    for (address, ports) in peers { evaluate(address, ports) }
  }

  // MARK: What is probed

  private func probes(_ readiness: Readiness) -> [Probe] {
    let others = readiness.members.filter { $0.instanceID != identity.instanceID }
    if others.count > Self.maximumPeers {
      report(.note("peers", "there are \(others.count) peers; only the first \(Self.maximumPeers) are probed"))
    }
    var probes = others.prefix(Self.maximumPeers).flatMap { member in
      ports(ofOtherZone: false).map { port in
        Probe(
          address: member.address, port: port,
          asksServer: settings.role == .server && !port.isUDP && port.number == settings.serverPort)
      }
    }
    if settings.role == .server {
      let remote = readiness.otherZones.flatMap(\.members).prefix(Self.maximumPeers)
      for address in remote.compactMap({ $0.wanAddress(settings) }) {
        probes += ports(ofOtherZone: true).map { Probe(address: address, port: $0) }
      }
    }
    return probes
  }

  /// Consul documentation, "Required Ports".
  private func ports(ofOtherZone: Bool) -> [Port] {
    let server = Port(number: settings.serverPort, name: "server RPC", isUDP: false)
    let lan = settings.port("serf_lan", otherwise: 8301), wan = settings.port("serf_wan", otherwise: 8302)
    let wanGossip = [
      Port(number: wan, name: "WAN gossip", isUDP: false), Port(number: wan, name: "WAN gossip", isUDP: true),
    ]
    if ofOtherZone { return [server] + wanGossip }
    let gossip = [
      server, Port(number: lan, name: "LAN gossip", isUDP: false), Port(number: lan, name: "LAN gossip", isUDP: true),
    ]
    if settings.role == .client { return gossip }
    // The servers of a group are configured alike.
    let http = configuration.opensHTTPAPI ? [Port(number: settings.httpPort, name: "HTTP API", isUDP: false)] : []
    return gossip + (settings.layout == .datacenterPerAZ ? wanGossip : []) + http
  }

  private func result(of probe: Probe) async -> ProbedPort {
    let (address, number) = (probe.address, probe.port.number)
    if probe.asksServer { return await askServer(probe) }
    guard probe.port.isUDP else {
      let result = await context.ports.connect(address, port: number, timeout: Self.timeout)
      return ProbedPort(port: probe.port, result: result)
    }
    var result = ProbeResult.silent
    for _ in 0..<Self.udpAttempts where result == .silent {
      result = await context.ports.probeDatagram(
        address, port: number, datagram: Memberlist.ping, timeout: Self.timeout)
    }
    return ProbedPort(port: probe.port, result: result)
  }

  private func askServer(_ probe: Probe) async -> ProbedPort {
    let server = RaftPortObserver(identity, secrets: secrets, settings: settings, context: context)
    do {
      _ = try await server.clusterStatus(of: probe.address)
      return ProbedPort(port: probe.port, result: .open)
    } catch RaftPortError.stream(.refused) {
      return ProbedPort(port: probe.port, result: .refused)
    } catch RaftPortError.stream(.silent) {
      return ProbedPort(port: probe.port, result: .silent)
    } catch RaftPortError.stream(.unreachable(let words)) {
      return ProbedPort(port: probe.port, result: .unreachable(words))
    } catch {
      return ProbedPort(port: probe.port, result: .open, failure: error.explained)
    }
  }

  // MARK: What it means

  private func evaluate(_ address: IPv4Address, _ ports: [ProbedPort]) {
    let subject = "peer \(address)"
    let hidden = ports.filter { isHiddenByEncryption($0, ports) }
    let filtered = ports.filter { probed in
      switch probed.result {
      case .unreachable: true
      case .silent: !isHiddenByEncryption(probed, ports)
      case .open, .refused: false
      }
    }
    if let first = filtered.first {
      let names = filtered.map { "\($0.port.text) (\($0.port.name))" }.joined(separator: ", ")
      let reason = if case .unreachable(let words) = first.result { words.lowercased() } else { "no answer" }
      let what = filtered.count == ports.count ? "filtered, or the instance is not running yet" : "filtered"
      report(
        .problem(
          subject, "\(what): \(names): \(reason)",
          hint: "allow these ports in the security groups of both instances and in the network ACLs of their subnets; "
            + "a port that is not filtered answers or refuses"))
    }
    for port in ports {
      guard let failure = port.failure else { continue }
      report(
        .problem(
          subject, "\(port.port.text) (\(port.port.name)) gives no answer: \(failure)",
          hint: "until it does, a run does not know whether this server has a cluster: check that Consul listens "
            + "there, and that --tls-ca, --tls-cert and --tls-key are of the same authority as the peer's"))
    }
    let list = { (result: ProbeResult) in
      ports.filter { $0.result == result && $0.failure == nil }.map(\.port.text).joined(separator: ", ")
    }
    let open = list(.open), refused = list(.refused)
    var parts: [String] = []
    if !open.isEmpty { parts.append("open: \(open)") }
    if !refused.isEmpty { parts.append("refused, nothing listens yet: \(refused)") }
    if !hidden.isEmpty {
      parts.append(
        "unknown: \(hidden.map(\.port.text).joined(separator: ", ")), as encrypted gossip does not answer the probe")
    }
    if !parts.isEmpty { report(.ok(subject, parts.joined(separator: "; "))) }
  }

  /// An agent with a gossip key ignores a datagram without it: silence says nothing where its tcp port is open.
  private func isHiddenByEncryption(_ probed: ProbedPort, _ ports: [ProbedPort]) -> Bool {
    guard probed.result == .silent, probed.port.isUDP, settings.gossipKey != nil else { return false }
    return ports.contains { !$0.port.isUDP && $0.port.number == probed.port.number && $0.result == .open }
  }
}
