internal import Base
internal import Decisions
internal import Model
internal import Observers

/// The doctor's look at this machine: Consul, data, disk, ports, names, units, configuration.
struct MachineChecks: Sendable {
  let settings: Settings
  let context: RuntimeContext
  let tell: @Sendable (Finding) -> Void

  /// Less room than this is no place for raft's log and snapshots.
  private static let leastRoom: Int64 = 256 << 20
  private static let littleRoom: Int64 = 1 << 30
  private static let validateTimeout = Duration.seconds(30)
  private static let nameTimeout = Duration.seconds(2)

  func consul() async -> MachineObserver.Binary? {
    do {
      let binary = try await MachineObserver(settings: settings, context: context).binary()
      tell(.ok("consul", "version \(binary.version), \(settings.image.map { "image \($0)" } ?? binary.path)"))
      return binary
    } catch {
      tell(.wrong("consul", error))
      return nil
    }
  }

  /// - Parameters:
  ///   - observation: nil where there is no Consul or no metadata to make one.
  ///   - name: that every name server must know, for example `ec2.eu-west-1.amazonaws.com`; nil if none is known.
  func check(_ observation: Observation?, name: String?) async {
    if !context.system.isRoot {
      tell(.wrong("user", "this is not root, and a run needs root", hint: "sudo consul-bootstrap doctor"))
    }
    disk()
    if let observation {
      user(observation.machine)
      data(observation)
      ports(observation)
    }
    if let name { await resolvers(name) }
    await units(observation?.machine)
  }

  // MARK: Disk and data

  private func disk() {
    for path in [settings.dataDirectory, settings.stateDirectory] {
      do {
        let (bytes, isReadOnly) = try context.system.freeSpace(at: existing(path))
        let free = "\(bytes >> 20) MiB are free for \(path)"
        if isReadOnly {
          tell(.wrong("disk", "the file system of \(path) is read-only", hint: "remount it, or name another directory"))
        } else if bytes < Self.leastRoom {
          tell(
            .wrong(
              "disk", free,
              hint:
                "make room: raft's log and snapshots, and staged files, need \(Self.leastRoom >> 20) MiB at the least"))
        } else if bytes < Self.littleRoom {
          tell(.note("disk", free))
        } else {
          tell(.ok("disk", free))
        }
      } catch {
        tell(.wrong("disk", error))
      }
    }
  }

  /// The path, or the nearest directory above it that is there.
  private func existing(_ path: String) -> String {
    var path = path
    while path != "/", ((try? context.files.status(path)) ?? nil) == nil {
      path = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "/"
    }
    return path
  }

  private func user(_ machine: MachineObservation) {
    guard context.system.isRoot else { return }
    if let owner = machine.agentOwner {
      tell(.ok("user", "the agent runs as \(owner.userName)"))
    } else {
      tell(
        .note(
          "user", "there is no user \(settings.user): the agent would run as root",
          hint: "consul-bootstrap install makes it"))
    }
  }

  private func data(_ observation: Observation) {
    switch DataDirectoryDecision(observation, settings) {
    case .fresh: tell(.ok("data", "\(settings.dataDirectory) is empty"))
    case .keep(let reason): tell(.ok("data", "\(settings.dataDirectory): \(reason)"))
    case .moveAside(let target, let reason):
      tell(
        .note(
          "data", "baked state: \(settings.dataDirectory) was \(reason); a run moves it aside to \(target)",
          hint: "remove it from the image: its instances would share one node id"))
    }
    for file in observation.machine.otherConfigurationFiles where file.setsBootstrap {
      tell(
        .wrong(
          "configuration", "\(file.path) sets bootstrap or bootstrap_expect",
          hint: "remove the key: a fixed value can make two clusters of one")
      )
    }
  }

  // MARK: Ports and names

  private func ports(_ observation: Observation) {
    guard !observation.machine.agentIsRunning else { return tell(.ok("ports", "an agent is running here")) }
    let lan = settings.port("serf_lan", otherwise: 8301), wan = settings.port("serf_wan", otherwise: 8302)
    let isServer = settings.role == .server, here = IPv4Address("127.0.0.1")!, own = observation.identity.privateIP
    var wanted: [(number: Int64, isUDP: Bool, addresses: [IPv4Address])] = [
      (lan, false, [own]), (lan, true, [own]),
    ]
    if isServer {
      wanted += [(settings.port("server", otherwise: 8300), false, [own]), (wan, false, [own]), (wan, true, [own])]
    }
    wanted += [
      (settings.httpPort, false, [here, own]), (settings.dnsPort, false, [here, own]),
      (settings.dnsPort, true, [here, own]),
    ]
    var isFree = true
    for (number, isUDP, addresses) in wanted where number > 0 {
      for address in addresses {
        guard let reason = context.ports.listenError(address, port: number, datagrams: isUDP) else { continue }
        isFree = false
        tell(
          .wrong(
            "ports", "\(number) \(isUDP ? "udp" : "tcp") on \(address) cannot be had: \(reason.lowercased())",
            hint: "see who has it: ss -lnp\(isUDP ? "u" : "t") 'sport = :\(number)'"))
        break
      }
    }
    if isFree { tell(.ok("ports", "the agent's are free")) }
  }

  private func resolvers(_ name: String) async {
    let servers = MachineObserver(settings: settings, context: context).nameServers()
    guard !servers.isEmpty else { return tell(.note("dns", "/etc/resolv.conf names no IPv4 name server")) }
    for server in servers {
      let start = context.uptime()
      do {
        _ = try await context.resolver.addresses(of: name, server: server, port: 53, timeout: Self.nameTimeout)
        tell(.ok("dns", "\(server) answers", time: context.uptime() - start))
      } catch let error as NameError {
        tell(
          .wrong(
            "dns", "name server \(server) does not resolve \(name): \(error.explanation)",
            hint: "the VPC's resolver is 169.254.169.253, and needs enableDnsSupport; see /etc/resolv.conf"))
      } catch {
        tell(.wrong("dns", error))
      }
    }
  }

  // MARK: Units

  private func units(_ machine: MachineObservation?) async {
    guard context.system.isBootedBySystemd else {
      if settings.start == .systemd {
        tell(.wrong("unit", "systemd is not the init system here", hint: "leave out --start systemd"))
      }
      return
    }
    let runsAgent = settings.start != .docker && settings.start != Settings.Start.none
    if runsAgent, let machine, case .text(let text) = machine.unit, !text.hasPrefix(SystemdUnit.header) {
      tell(.note("unit", "\(SystemdUnit.path) is not ours; a run moves it aside"))
    }
    for unit in (runsAgent ? [SystemdUnit.name] : []) + [SidecarUnit.name] {
      let result = try? await context.launcher.run(
        Command("/bin/systemctl", ["show", "--property=ActiveState,LoadState,Result", unit]), timeout: .seconds(10))
      let state = Dictionary(
        (result?.output ?? "").split(separator: "\n").compactMap { line in
          let halves = line.split(separator: "=", maxSplits: 1).map(String.init)
          return halves.count == 2 ? (halves[0], halves[1]) : nil
        }, uniquingKeysWith: { first, _ in first })
      switch (state["LoadState"], state["ActiveState"]) {
      case ("masked", _):
        tell(.wrong("unit", "\(unit) is masked", hint: "systemctl unmask \(unit)"))
      case (_, "failed"):
        tell(.wrong("unit", "\(unit) has failed (\(state["Result"] ?? "?"))", hint: "journalctl -u \(unit) says why"))
      case (_, "activating"), (_, "deactivating"), (_, "active"):
        tell(.ok("unit", "\(unit) is \(state["ActiveState"] ?? "")"))
      default: tell(.ok("unit", "\(unit) is not started yet; a run does it"))
      }
    }
  }

  // MARK: The configuration

  /// What a run would write, if it were to write it now; checked by Consul itself.
  func configuration(_ observation: Observation, _ instance: LocatedInstance, _ planner: Planner) async {
    do {
      let plan = try await planner.plan(at: instance, .dryRun)
      if let obstacle = plan.obstacle {
        // Under supervise an agent that runs is a run that goes on.
        tell(
          observation.machine.agentIsRunning && obstacle.status == .agentNotStarted
            ? .note("plan", "another run would stop: \(obstacle.message)", hint: obstacle.hint)
            : .wrong("plan", obstacle))
      }
      for warning in plan.warnings { tell(.note("plan", warning)) }
      try await validate(plan.sidecarSteps.configuration.staged(at: settings.stateDirectory + "/doctor.json"))
      tell(.ok("plan", "what a run would decide now: \(plan.decision.name)"))
    } catch {
      tell(.wrong("plan", error))
    }
  }

  /// Staged beside a run's file: a run on this machine may be validating its own at the same time.
  private func validate(_ file: ConfigurationFile) async throws {
    try context.files.createDirectory(settings.stateDirectory, mode: 0o755, owner: nil)
    try context.files.write(file.stagedPath, Array(file.text.value.utf8), mode: 0o600, owner: nil)
    // A file that stays is overwritten by the next doctor.
    defer { try? context.files.removeFile(file.stagedPath) }
    let result = try await context.launcher.run(file.validation, timeout: Self.validateTimeout)
    if result.succeeded {
      tell(.ok("configuration", "Consul accepts what a run would write"))
    } else {
      let words = result.output.split(whereSeparator: \.isNewline).suffix(5).joined(separator: "; ")
      tell(
        .wrong(
          "configuration", "Consul rejects what a run would write: \(words)",
          hint: "check --set, --merge and the other files beside \(file.path)"))
    }
  }
}
