package import Base
package import Consul
package import Decisions
internal import LogForwarding

/// Looks at this machine. Reads only; `consul version` is the one program it runs.
package struct MachineObserver: Sendable {
  private let settings: Settings
  private let context: RuntimeContext

  package init(settings: Settings, context: RuntimeContext) {
    self.settings = settings
    self.context = context
  }

  /// A Consul that can be run.
  package struct Binary: Sendable {
    package let path: String
    package let version: ConsulVersion
  }

  /// `consul version` takes some 50 ms; a machine under load at boot may need much longer.
  private static let versionTimeout = Duration.seconds(20)

  /// The first use of an image pulls it.
  private static let pullTimeout = Duration.seconds(300)

  /// - Throws: `Failure` with status 15.
  package func binary() async throws -> Binary {
    let path = try settings.image == nil ? binaryPath() : dockerPath()
    let command = settings.image.map { DockerContainer.version(docker: path, image: $0) } ?? Command(path, ["version"])
    do {
      let result = try await context.launcher.run(
        command, timeout: settings.image == nil ? Self.versionTimeout : Self.pullTimeout)
      if let version = ConsulVersion(output: result.output) { return Binary(path: path, version: version) }
      throw Failure(
        .agentNotStarted, "\(settings.image ?? path) does not say which version of Consul it is",
        details: ["`\(command.text)`: \(result.end.explanation)"]
          + result.output.split(whereSeparator: \.isNewline).prefix(5).map(String.init),
        hint: settings.image == nil
          ? "name the Consul binary with --consul" : "check --image, and that the Docker engine runs")
    } catch let error as LaunchError {
      throw Failure(
        .agentNotStarted, "Consul cannot be run", details: [error.explanation],
        hint: "check that \(path) is a program for this machine, or name another with --consul")
    }
  }

  private func binaryPath() throws -> String {
    if let path = settings.consulPath {
      guard try kind(path) == .file else {
        throw Failure(
          .agentNotStarted, "there is no Consul at \(path)",
          hint: "install Consul, or correct --consul (CONSUL_BOOTSTRAP_CONSUL)")
      }
      guard context.files.isExecutable(path) else {
        throw Failure(.agentNotStarted, "\(path) is not executable", hint: "chmod +x \(path)")
      }
      return path
    }
    return try find("consul", title: "Consul", hint: "install Consul, or name its binary with --consul")
  }

  private func dockerPath() throws -> String {
    try find("docker", title: "Docker", hint: "install Docker, or start the agent another way with --start")
  }

  private func find(_ name: String, title: String, hint: String) throws -> String {
    // User-data may run with hardly any PATH.
    let path = (context.environment["PATH"] ?? "").split(separator: ":").map(String.init)
    let directories = path + ["/usr/local/bin", "/usr/bin", "/opt/consul/bin"].filter { !path.contains($0) }
    let found = try directories.map { "\($0)/\(name)" }.filter { try kind($0) == .file }
    if let executable = found.first(where: context.files.isExecutable) { return executable }
    if let first = found.first {
      throw Failure(.agentNotStarted, "\(first) is not executable", hint: "chmod +x \(first)")
    }
    throw Failure(
      .agentNotStarted, "\(title) is not installed", details: ["no \(name) in \(directories.joined(separator: ", "))"],
      hint: hint)
  }

  private func kind(_ path: String) throws -> FileKind? {
    (try? context.files.status(path))??.kind
  }

  /// Everything but the binary.
  package func observe(_ binary: Binary, identity: Identity) async throws -> MachineObservation {
    let owner = try agentOwner()
    var machine = MachineObservation(
      consulPath: binary.path, consulVersion: binary.version, isBootedBySystemd: context.system.isBootedBySystemd,
      hostName: context.system.hostName, agentOwner: owner, dataDirectory: dataDirectory(identity),
      recordedInstanceID: try recordedInstanceID(), configuration: content(settings.configurationPath),
      unit: content(SystemdUnit.path), agentIsRunning: await agentIsRunning(identity),
      otherConfigurationFiles: try otherConfigurationFiles())
    machine.programPath = context.system.programPath
    machine.environment = context.environment
    machine.syslogFile = LogSource.syslogFile(context.files)
    if settings.dnsAddress == .dockerBridge {
      machine.dockerBridge = try reading("the network interfaces") {
        try context.system.address(ofInterface: "docker0")
      }
    }
    if settings.dns != .none {
      machine.nameServers = nameServers()
      machine.resolverConfiguration = content("/etc/resolv.conf")
      machine.resolverConfigurationIsManaged = try reading("the resolver configuration") {
        try context.files.isLink("/etc/resolv.conf")
      }
      machine.hasDnsmasq = try kind("/usr/sbin/dnsmasq") == .file
      if settings.dns == .systemdResolved, machine.isBootedBySystemd { machine.systemdVersion = await systemdVersion() }
    }
    return machine
  }

  /// Those of `/etc/resolv.conf`; behind systemd-resolved's stub, those that it forwards to.
  func nameServers() -> [IPv4Address] {
    let listed = nameServers(in: "/etc/resolv.conf")
    guard listed.allSatisfy(\.isLoopback) else { return listed }
    let behind = nameServers(in: "/run/systemd/resolve/resolv.conf")
    return behind.isEmpty ? listed : behind
  }

  private func nameServers(in path: String) -> [IPv4Address] {
    guard case .text(let text) = content(path) else { return [] }
    return text.split(whereSeparator: \.isNewline).compactMap { line in
      let words = line.split { $0 == " " || $0 == "\t" }
      return words.count >= 2 && words[0] == "nameserver" ? IPv4Address(words[1]) : nil
    }
  }

  /// Its first line is `systemd 252 (252.39-1~deb12u1)`.
  private func systemdVersion() async -> Int? {
    let result = try? await context.launcher.run(Command("/bin/systemctl", ["--version"]), timeout: .seconds(5))
    let words = result?.output.split { $0 == " " || $0 == "\n" } ?? []
    return words.count > 1 && words[0] == "systemd" ? Int(words[1].prefix { $0.isNumber }) : nil
  }

  /// Only root can run the agent as somebody else.
  private func agentOwner() throws -> FileOwner? {
    guard context.system.isRoot else { return nil }
    // Unreadable is not "no such user": the agent would run as root.
    let owner = try reading("the users of this machine", hint: "make the file readable for root") {
      try context.system.owner(named: settings.user)
    }
    if let owner { return owner }
    guard settings.user != Settings().user else {
      context.log.warning(
        "there is no user \(settings.user): the agent runs as root",
        ["hint": "create the user, or name another with --user"])
      return nil
    }
    throw Failure(.usage, "there is no user \(settings.user)", hint: "create it, or correct --user")
  }

  /// Stops the run where the machine cannot be read: unreadable is not absent.
  private func reading<Result>(_ subject: String, hint: String? = nil, _ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch let error as FileError {
      throw Failure(.configurationRejected, "cannot read \(subject)", details: [error.explanation], hint: hint)
    }
  }

  private func dataDirectory(_ identity: Identity) -> DataDirectoryObservation {
    let path = settings.dataDirectory
    let raftState = RaftState(dataDirectory: path, files: context.files)
    guard let status = (try? context.files.status(path)) ?? nil, status.kind == .directory else {
      return DataDirectoryObservation(content: nil, raftState: raftState, isMount: false)
    }
    let parent = (try? context.files.status(path + "/..")) ?? nil
    let names = (try? context.files.list(path)) ?? []
    // A file system's own directory is no content.
    let isEmpty = names.allSatisfy { $0 == "lost+found" }
    return DataDirectoryObservation(
      content: isEmpty && raftState == .none ? nil : .init(snapshotNamesThisAddress: snapshotNames(identity.privateIP)),
      raftState: raftState, isMount: parent.map { $0.device != status.device } ?? false)
  }

  /// serf writes `alive: NAME ADDRESS:PORT` for every member, its own node included.
  private func snapshotNames(_ address: IPv4Address) -> Bool? {
    guard let bytes = try? context.files.read(settings.dataDirectory + "/serf/local.snapshot", limit: 16 << 20) else {
      return nil
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: "\n").contains { line in
      line.hasPrefix("alive: ") && line.contains(" \(address):")
    }
  }

  private func recordedInstanceID() throws -> String? {
    guard case .text(let text) = content(settings.stateDirectory + "/instance.json") else { return nil }
    return (try? JSONValue(parsing: text))?["instance_id"]?.string
  }

  private func content(_ path: String) -> FileContent {
    do {
      guard let bytes = try context.files.readIfPresent(path) else { return .absent }
      return .text(String(decoding: bytes, as: UTF8.self))
    } catch let error as FileError {
      return .unreadable(reason: error.reason)
    } catch {
      return .unreadable(reason: "\(error)")
    }
  }

  private func agentIsRunning(_ identity: Identity) async -> Bool {
    for address in ["127.0.0.1", identity.privateIP.description] {
      let client = AgentClient(
        address: "\(address):\(settings.httpPort)", transport: context.transport, timeout: .seconds(1))
      do {
        _ = try await client.clusterStatus()
        return true
      } catch AgentError.refused {
        return true  // an agent that has no answer yet is an agent
      } catch { continue }
    }
    return false
  }

  private func otherConfigurationFiles() throws -> [MachineObservation.OtherFile] {
    let directory = settings.configDirectory
    guard let names = try? context.files.list(directory) else { return [] }
    return names.filter { $0.hasSuffix(".json") || $0.hasSuffix(".hcl") }.map { "\(directory)/\($0)" }
      .filter { $0 != settings.configurationPath }
      .map { path in
        guard case .text(let text) = content(path) else { return .init(path: path, setsBootstrap: false) }
        return .init(path: path, setsBootstrap: setsBootstrap(text))
      }
  }

  private func setsBootstrap(_ text: String) -> Bool {
    if let value = try? JSONValue(parsing: text) {
      return (value["bootstrap_expect"]?.integer ?? 0) > 0 || value["bootstrap"]?.bool == true
    }
    // HCL: `bootstrap_expect = 3`, at the start of a line as it is written by people.
    return text.split(whereSeparator: \.isNewline).contains { line in
      let words = line.split { $0 == " " || $0 == "\t" || $0 == "=" || $0 == "\"" }
      return words.first == "bootstrap_expect" || words.prefix(2) == ["bootstrap", "true"]
    }
  }
}
