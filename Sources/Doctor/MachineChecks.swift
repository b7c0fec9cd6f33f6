internal import Base
internal import Decisions
internal import Model
internal import Observers

/// Checks this machine: Consul, user, data, disk, ports, name servers, units and the configuration.
struct MachineChecks: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let report: @Sendable (Finding) -> Void

  /// Raft's log and snapshots do not fit into less.
  private static let minimumSpace: Int64 = 256 << 20
  private static let lowSpace: Int64 = 1 << 30
  private static let nameTimeout = Duration.seconds(2)
  private static let resolverPath = "/etc/resolv.conf"

  /// - Returns: nil if there is no Consul that can be run.
  func consul() async -> MachineObserver.Binary? {
    do {
      let binary = try await MachineObserver(settings: settings, context: context).binary()
      report(.ok("consul", "version \(binary.version), \(settings.image.map { "image \($0)" } ?? binary.path)"))
      return binary
    } catch {
      report(.problem("consul", error))
      return nil
    }
  }

  /// - Parameters:
  ///   - observation: nil if it cannot be made without Consul or metadata.
  ///   - name: a name that every name server must resolve, for example `ec2.eu-west-1.amazonaws.com`; nil if none is
  ///     known.
  func check(_ observation: Observation?, name: String?) async {
    if !context.system.isRoot {
      report(
        .problem("user", "the doctor does not run as root; a run needs root", hint: "sudo consul-bootstrap doctor"))
    }
    disk()
    if let observation {
      files(observation.machine)
      user(observation.machine)
      data(observation)
      ports(observation)
    }
    if let name { await nameServers(name) }
    await units(observation?.machine)
  }

  // MARK: Disk and data

  private func disk() {
    for path in [settings.dataDirectory, settings.stateDirectory] {
      do {
        let (bytes, isReadOnly) = try context.system.freeSpace(at: existing(path))
        let free = "\(bytes >> 20) MiB are free for \(path)"
        if isReadOnly {
          report(
            .problem(
              "disk", "the file system of \(path) is read-only", hint: "remount it, or choose another directory"))
        } else if bytes < Self.minimumSpace {
          report(
            .problem(
              "disk", free,
              hint: "free at least \(Self.minimumSpace >> 20) MiB: raft's log and snapshots need them"))
        } else if bytes < Self.lowSpace {
          report(.note("disk", free))
        } else {
          report(.ok("disk", free))
        }
      } catch {
        report(.problem("disk", error))
      }
    }
  }

  /// The path, or the nearest directory above it that exists. One whose status is unreadable is not skipped.
  private func existing(_ path: String) throws -> String {
    var path = path
    while path != "/", try context.files.status(path) == nil {
      path = parentDirectory(of: path)
    }
    return path
  }

  /// A run stops at the first of these.
  private func files(_ machine: MachineObservation) {
    for file in machine.unreadable { report(.problem("files", file.failure)) }
  }

  private func user(_ machine: MachineObservation) {
    guard context.system.isRoot else { return }
    if let owner = machine.agentOwner {
      report(.ok("user", "the agent runs as \(owner.userName)"))
    } else {
      report(
        .note(
          "user", "there is no user \(settings.user): the agent would run as root",
          hint: "create it with consul-bootstrap install"))
    }
  }

  private func data(_ observation: Observation) {
    dataDirectory(observation)
    for failure in observation.machine.otherFileFailures { report(.problem("configuration", failure)) }
  }

  private func dataDirectory(_ observation: Observation) {
    // What the data directory is cannot be known: `files` has reported why.
    guard
      !observation.machine.unreadable.contains(where: { file in
        file.path == settings.instanceRecordPath || (file.path + "/").hasPrefix(settings.dataDirectory + "/")
      })
    else { return }
    switch DataDirectoryDecision(observation, settings) {
    case .fresh: report(.ok("data", "\(settings.dataDirectory) is empty"))
    case .keep(let reason): report(.ok("data", "\(settings.dataDirectory): \(reason)"))
    case .rename(let target, let reason):
      report(
        .note(
          "data", "baked state: \(settings.dataDirectory) was \(reason); a run renames it to \(target)",
          hint: "remove it from the image; otherwise its instances share one node ID"))
    }
  }

  // MARK: Ports and names

  private func ports(_ observation: Observation) {
    guard !observation.machine.agentIsRunning else { return report(.ok("ports", "an agent is running here")) }
    let lan = settings.port("serf_lan", otherwise: 8301), wan = settings.port("serf_wan", otherwise: 8302)
    let loopback = AgentInterface.loopback, own = observation.identity.privateIP
    var wanted: [(number: Int64, isUDP: Bool, addresses: [IPv4Address])] = [
      (lan, false, [own]), (lan, true, [own]),
    ]
    if settings.role == .server {
      wanted += [(settings.serverPort, false, [own]), (wan, false, [own]), (wan, true, [own])]
    }
    let client = settings.clientAddress == .loopback ? [loopback] : [loopback, own]
    wanted += [
      (settings.httpPort, false, client), (settings.dnsPort, false, client), (settings.dnsPort, true, client),
    ]
    var areFree = true
    for (number, isUDP, addresses) in wanted where number > 0 {
      for address in addresses {
        guard let reason = context.ports.listenError(address, port: number, datagrams: isUDP) else { continue }
        areFree = false
        report(
          .problem(
            "ports",
            "port \(number) \(isUDP ? "udp" : "tcp") on \(address) is not available: \(reason.lowercased())",
            hint: "find the process that uses it: ss -lnp\(isUDP ? "u" : "t") 'sport = :\(number)'"))
        break
      }
    }
    if areFree { report(.ok("ports", "the agent's ports are free")) }
  }

  private func nameServers(_ name: String) async {
    let servers: [IPv4Address]
    do {
      servers = try MachineObserver(settings: settings, context: context).nameServers()
    } catch {
      return report(.problem("dns", error))
    }
    guard !servers.isEmpty else { return report(.note("dns", "\(Self.resolverPath) lists no IPv4 name server")) }
    for server in servers {
      let start = context.uptime()
      do {
        _ = try await context.resolver.addresses(of: name, server: server, port: 53, timeout: Self.nameTimeout)
        report(.ok("dns", "\(server) answers", time: context.uptime() - start))
      } catch {
        report(
          .problem(
            "dns", "name server \(server) does not resolve \(name): \(error.explained)",
            hint: "check \(Self.resolverPath); the VPC's resolver is 169.254.169.253 and requires enableDnsSupport"))
      }
    }
  }
}
