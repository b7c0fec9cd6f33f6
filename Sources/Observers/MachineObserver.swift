internal import Artifacts
package import Base
internal import Consul
package import Model

/// Observes this machine. It runs no other program than `systemctl --version` and, for `binary()`, `consul version`;
/// with `--image` Docker runs that, and may pull the image. It changes nothing else.
package struct MachineObserver: Sendable {
  let settings: Settings
  let context: RuntimeContext

  package init(settings: Settings, context: RuntimeContext) {
    self.settings = settings
    self.context = context
  }

  private static let resolverPath = "/etc/resolv.conf"
  private static let agentTimeout = Duration.seconds(1)
  private static let systemctlTimeout = Duration.seconds(5)
  /// The agent's gossip snapshot has at most some MB: serf compacts it.
  private static let snapshotLimit = 16 << 20

  /// Everything except the binary. What exists and cannot be read is in `unreadable`: it does not count as absent.
  /// - Throws: `Failure` with status 2 for a user that does not exist, or `CancellationError`.
  package func observe(_ binary: Binary, identity: Identity) async throws -> MachineObservation {
    let reader = CheckedReader(context.files)
    let others = ConfigurationDirectory(path: settings.configDirectory, reader: reader)
      .files(except: settings.configurationPath)
    let configuration = CurrentConfiguration(reading: settings.configurationPath, beside: others, reader)
    var machine = MachineObservation(
      consulPath: binary.path, consulVersion: binary.version, isBootedBySystemd: context.system.isBootedBySystemd,
      hostName: context.system.hostName, agentOwner: try agentOwner(),
      dataDirectory: dataDirectory(identity, reader), recordedInstanceID: recordedInstanceID(reader),
      configuration: configuration,
      unit: reader.content(SystemdUnit.path),
      agentIsRunning: try await agentIsRunning(identity, configuration), otherConfigurationFiles: others)
    machine.namesCluster = reader.status(settings.clusterIdentityPath) != nil
    machine.supervisorPID = supervisorPID()
    machine.programPath = context.system.programPath
    machine.sidecarEnvironment = SidecarUnit.environment(of: context.environment)
    machine.syslogFile = SyslogFile.path(context.files)
    if settings.dnsAddress == .dockerBridge {
      machine.dockerBridge = try reading { () throws(FileError) in try context.system.address(ofInterface: "docker0") }
    }
    if settings.dns != .none {
      machine.nameServers = nameServers(reader)
      machine.resolverConfiguration = reader.content(Self.resolverPath)
      machine.resolverConfigurationIsManaged = reader.isLink(Self.resolverPath)
      machine.hasDnsmasq = reader.status("/usr/sbin/dnsmasq")?.kind == .file
      if settings.dns == .systemdResolved, machine.isBootedBySystemd {
        machine.systemdVersion = try await systemdVersion()
      }
    }
    machine.unreadable = reader.unreadable
    return machine
  }

  // MARK: Users and programs

  /// Only root can run the agent as another user.
  private func agentOwner() throws -> FileOwner? {
    guard context.system.isRoot else { return nil }
    // Unreadable is not "no such user": the agent would run as root.
    if let owner = try reading({ () throws(FileError) in try context.system.owner(named: settings.user) }) {
      return owner
    }
    guard settings.user != Settings().user else {
      context.log.warning(
        "there is no user \(settings.user): the agent runs as root",
        ["hint": "create the user, or set another with --user"])
      return nil
    }
    throw Failure(.usage, "there is no user \(settings.user)", hint: "create the user, or correct --user")
  }

  /// Whether an agent answers, or accepts the query and does not answer in time: only a port without an agent means no.
  /// - Throws: `Failure` with status 15 if this process cannot even ask, for example without descriptors.
  private func agentIsRunning(_ identity: Identity, _ configuration: CurrentConfiguration) async throws -> Bool {
    // An agent that runs was started with the configuration on disk; one that a run starts uses the settings.
    let ports = Set([configuration.merged.port("http", otherwise: settings.httpPort), settings.httpPort]).sorted()
    let addresses = ["127.0.0.1", identity.privateIP.description]
    for (address, port) in ports.filter({ $0 > 0 }).flatMap({ port in addresses.map { ($0, port) } }) {
      let client = AgentClient(
        address: "\(address):\(port)", transport: context.transport, timeout: Self.agentTimeout)
      do {
        _ = try await client.clusterStatus()
        return true
      } catch AgentError.refused, AgentError.transport(.timedOut(whileConnecting: false)) {
        return true
      } catch AgentError.transport(.other(let reason)) {
        throw Failure(
          .agentNotStarted, "cannot check whether an agent is running at \(address)", details: [reason],
          hint: "raise the limits of this process (ulimit -n, ulimit -u)")
      } catch is AgentError {
        continue
      }
    }
    return false
  }

  /// One that cannot be seen is none: then the agent counts as another program's, and a run stops.
  private func supervisorPID() -> Int32? {
    let path = settings.supervisorLockPath
    do throws(FileError) {
      return try context.files.holder(ofLock: path)
    } catch {
      context.log.debug("cannot check whether a process supervises the agent", ["reason": .string(error.explanation)])
      return nil
    }
  }

  /// The first line of the output is `systemd 252 (252.39-1~deb12u1)`.
  private func systemdVersion() async throws -> Int? {
    let command = Command.systemctl("--version")
    let reason: String
    do {
      let result = try await context.launcher.run(command, timeout: Self.systemctlTimeout)
      let words = result.output.split { $0 == " " || $0.isNewline }
      if words.count > 1, words[0] == "systemd", let version = Int(words[1].prefix { $0.isNumber }) { return version }
      let line = result.output.split(whereSeparator: \.isNewline).first ?? "no output"
      reason = "`\(command.text)`: \(result.end.explanation): \(line)"
    } catch let error as LaunchError {
      reason = error.explanation
    }
    context.log.warning("cannot determine the version of systemd", ["reason": .string(reason)])
    return nil
  }

  // MARK: Name servers

  /// Name servers of this machine, for the doctor.
  /// - Throws: `Failure` with status 14 for a file that cannot be read.
  package func nameServers() throws(Failure) -> [IPv4Address] {
    let reader = CheckedReader(context.files)
    let servers = nameServers(reader)
    if let file = reader.unreadable.first { throw file.failure }
    return servers
  }

  /// Those in `/etc/resolv.conf`; if it lists only systemd-resolved's stub, those that systemd-resolved forwards to.
  private func nameServers(_ reader: CheckedReader) -> [IPv4Address] {
    let listed = nameServers(in: Self.resolverPath, reader)
    guard listed.allSatisfy(\.isLoopback) else { return listed }
    let upstream = nameServers(in: "/run/systemd/resolve/resolv.conf", reader)
    return upstream.isEmpty ? listed : upstream
  }

  private func nameServers(in path: String, _ reader: CheckedReader) -> [IPv4Address] {
    guard case .text(let text) = reader.content(path) else { return [] }
    return text.split(whereSeparator: \.isNewline).compactMap { line in
      let words = line.split { $0 == " " || $0 == "\t" }
      return words.count >= 2 && words[0] == "nameserver" ? IPv4Address(words[1]) : nil
    }
  }

  // MARK: Data

  private func dataDirectory(_ identity: Identity, _ reader: CheckedReader) -> DataDirectoryObservation {
    let path = settings.dataDirectory
    let raftState = RaftState(dataDirectory: path, files: context.files)
    guard let status = reader.status(path), status.kind == .directory else {
      // A link to a disk that is not mounted yet is not an empty directory.
      if case .unknown(let reason) = raftState { reader.reject(path, reason: reason) }
      return DataDirectoryObservation(content: nil, raftState: raftState, isMount: false)
    }
    let parent = reader.status(path + "/..")
    // A file system creates lost+found in its root.
    let isEmpty = reader.list(path).allSatisfy { $0 == "lost+found" } && raftState == .none
    return DataDirectoryObservation(
      content: isEmpty ? nil : .init(snapshotNamesThisAddress: snapshotNames(identity.privateIP, reader)),
      raftState: raftState, isMount: parent.map { $0.device != status.device } ?? false)
  }

  /// serf writes `alive: NAME ADDRESS:PORT` for every member, its own node included.
  private func snapshotNames(_ address: IPv4Address, _ reader: CheckedReader) -> Bool? {
    let path = settings.dataDirectory + "/serf/local.snapshot"
    guard case .text(let text) = reader.content(path, limit: Self.snapshotLimit) else { return nil }
    return text.split(separator: "\n").contains { line in
      line.hasPrefix("alive: ") && line.contains(" \(address):")
    }
  }

  /// A malformed record is unreadable: without the record a healthy server's data would be renamed.
  private func recordedInstanceID(_ reader: CheckedReader) -> String? {
    let path = settings.instanceRecordPath
    guard case .text(let text) = reader.content(path) else { return nil }
    do {
      if let id = try JSONValue(parsing: text)["instance_id"]?.string { return id }
      reader.reject(path, reason: "\(path) has no text member instance_id")
    } catch {
      reader.reject(path, reason: "\(path) is not JSON")
    }
    return nil
  }

  /// Stops the run if the machine cannot be read.
  private func reading<Result>(_ body: () throws(FileError) -> Result) throws(Failure) -> Result {
    do { return try body() } catch {
      throw UnreadableFile(
        path: error.path, reason: error.explanation, isPermissionDenied: error.isPermissionDenied
      ).failure
    }
  }
}
