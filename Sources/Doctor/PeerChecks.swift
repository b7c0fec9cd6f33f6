internal import Base
internal import Consul
internal import Decisions
internal import Model
internal import Observers

/// The doctor's knock at the peers' ports: open, refused (nothing listens yet), or dropped by somebody between us.
struct PeerChecks: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let identity: Identity
  let tell: @Sendable (Finding) -> Void

  /// In the VPC an answer takes a millisecond.
  private static let timeout = Duration.seconds(1)
  /// A fleet's doctor need not knock at everybody: what one security group does it does to all.
  private static let mostPeers = 25

  private struct Port: Sendable {
    let number: Int64
    let name: String
    let isUDP: Bool

    var text: String { "\(number) \(isUDP ? "udp" : "tcp")" }
  }

  /// Consul documentation, "Required Ports".
  private func ports(ofOtherZone: Bool) -> [Port] {
    let server = Port(number: settings.port("server", otherwise: 8300), name: "server RPC", isUDP: false)
    let lan = settings.port("serf_lan", otherwise: 8301), wan = settings.port("serf_wan", otherwise: 8302)
    let wanGossip = [
      Port(number: wan, name: "WAN gossip", isUDP: false), Port(number: wan, name: "WAN gossip", isUDP: true),
    ]
    if ofOtherZone { return [server] + wanGossip }
    let gossip = [
      server, Port(number: lan, name: "LAN gossip", isUDP: false), Port(number: lan, name: "LAN gossip", isUDP: true),
    ]
    if settings.role == .client { return gossip }
    return gossip + (settings.layout == .datacenterPerAZ ? wanGossip : []) + [
      Port(number: settings.httpPort, name: "HTTP API", isUDP: false)
    ]
  }

  func ports(_ readiness: Readiness) async {
    var knocks: [(address: IPv4Address, port: Port)] = []
    let others = readiness.members.filter { $0.instanceID != identity.instanceID }
    if others.count > Self.mostPeers {
      tell(.note("peers", "there are \(others.count); the first \(Self.mostPeers) are knocked at"))
    }
    for member in others.prefix(Self.mostPeers) { knocks += ports(ofOtherZone: false).map { (member.address, $0) } }
    if settings.role == .server {
      for member in readiness.otherZones.flatMap(\.members).prefix(Self.mostPeers) {
        if let address = member.wanAddress(settings) { knocks += ports(ofOtherZone: true).map { (address, $0) } }
      }
    }
    guard !knocks.isEmpty else { return tell(.note("peers", "there are none to knock at yet")) }
    let answers = await withTaskGroup(of: (Int, ProbeResult).self) { group in
      for (index, knock) in knocks.enumerated() { group.addTask { (index, await answer(knock.address, knock.port)) } }
      var answers = [ProbeResult](repeating: .silent, count: knocks.count)
      for await (index, answer) in group { answers[index] = answer }
      return answers
    }
    var byPeer: [(address: IPv4Address, results: [(port: Port, answer: ProbeResult)])] = []
    for (knock, answer) in zip(knocks, answers) {
      if byPeer.last?.address != knock.address { byPeer.append((knock.address, [])) }
      byPeer[byPeer.count - 1].results.append((knock.port, answer))
    }
    for (address, results) in byPeer { report(address, results) }
  }

  /// A datagram may be lost; and a Linux that has just refused some says so to the same machine only once a second (`icmp_ratelimit`).
  private static let udpAttempts = 3

  private func answer(_ address: IPv4Address, _ port: Port) async -> ProbeResult {
    guard port.isUDP else { return await context.ports.connect(address, port: port.number, timeout: Self.timeout) }
    for _ in 1..<Self.udpAttempts {
      let answer = await context.ports.ask(address, port: port.number, datagram: Memberlist.ping, timeout: Self.timeout)
      guard answer == .silent else { return answer }
    }
    return await context.ports.ask(address, port: port.number, datagram: Memberlist.ping, timeout: Self.timeout)
  }

  private func report(_ address: IPv4Address, _ results: [(port: Port, answer: ProbeResult)]) {
    let filtered = results.filter { result in
      switch result.answer {
      case .unreachable: true
      case .silent: !(result.port.isUDP && settings.gossipKey != nil && isOpen(result.port.number, results))
      case .open, .refused: false
      }
    }
    let list = { (answer: ProbeResult) in
      results.filter { $0.answer == answer }.map(\.port.text).joined(separator: ", ")
    }
    let subject = "peer \(address)"
    if !filtered.isEmpty {
      let names = filtered.map { "\($0.port.text) (\($0.port.name))" }.joined(separator: ", ")
      let word = if case .unreachable(let words)? = filtered.first?.answer { words.lowercased() } else { "no answer" }
      tell(
        .wrong(
          subject,
          (filtered.count == results.count ? "filtered, or that machine is not up yet: " : "filtered: ")
            + "\(names): \(word)",
          hint:
            "allow it in the security groups of both sides and the subnets' network ACLs: who listens answers, and who does not refuses"
        ))
    }
    let open = list(.open), refused = list(.refused)
    var parts: [String] = []
    if !open.isEmpty { parts.append("open: \(open)") }
    if !refused.isEmpty { parts.append("refused, nothing listens yet: \(refused)") }
    if results.contains(where: {
      $0.answer == .silent && $0.port.isUDP && settings.gossipKey != nil && isOpen($0.port.number, results)
    }) {
      parts.append("udp: encrypted gossip answers no stranger")
    }
    if !parts.isEmpty { tell(.ok(subject, parts.joined(separator: "; "))) }
  }

  private func isOpen(_ number: Int64, _ results: [(port: Port, answer: ProbeResult)]) -> Bool {
    results.contains { !$0.port.isUDP && $0.port.number == number && $0.answer == .open }
  }
}
