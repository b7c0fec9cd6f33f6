package import Base
package import Model

/// What an image is given, and what a machine that is there already gets by `consul-bootstrap install`: everything that a run needs and
/// that is the same for every run. Nothing is started, nothing is configured.
package struct Installation: Sendable {
  /// What this machine has.
  package struct Facts: Sendable {
    /// Nil if there is no such user yet.
    package var owner: FileOwner?
    package var programPath: String
    package var consulPath: String
    /// There is a directory for units.
    package var hasSystemd: Bool
    /// systemd runs, and can be told.
    package var isBootedBySystemd: Bool
    package var agentUnit: FileContent
    package var sidecarUnit: FileContent
    /// A run has been here.
    package var hasConfiguration: Bool

    package init(
      owner: FileOwner?, programPath: String, consulPath: String, hasSystemd: Bool, isBootedBySystemd: Bool,
      agentUnit: FileContent,
      sidecarUnit: FileContent, hasConfiguration: Bool
    ) {
      self.owner = owner
      self.programPath = programPath
      self.consulPath = consulPath
      self.hasSystemd = hasSystemd
      self.isBootedBySystemd = isBootedBySystemd
      self.agentUnit = agentUnit
      self.sidecarUnit = sidecarUnit
      self.hasConfiguration = hasConfiguration
    }
  }

  package static let programPath = "/usr/local/bin/consul-bootstrap"
  /// Where a distribution's package puts it.
  private static let packagedPath = "/usr/bin/consul-bootstrap"
  private static let logRotationPath = "/etc/logrotate.d/consul-bootstrap"

  private let settings: Settings
  private let facts: Facts
  /// Completions and manual, by path.
  private let documents: [(path: String, text: String)]

  package init(_ settings: Settings, _ facts: Facts, documents: [(path: String, text: String)]) {
    self.settings = settings
    self.facts = facts
    self.documents = documents
  }

  private var program: String { facts.programPath == Self.packagedPath ? Self.packagedPath : Self.programPath }

  /// Before all else; the directories need its number. Nil if the user is there.
  package var userStep: Step? {
    guard facts.owner == nil else { return nil }
    return .run(
      Command(
        "/usr/sbin/useradd",
        [
          "--system", "--user-group", "--no-create-home", "--home-dir", settings.dataDirectory, "--shell",
          "/usr/sbin/nologin", settings.user,
        ]))
  }

  package var steps: [Step] {
    // A dry run on a machine without the user only needs its name.
    let owner = facts.owner ?? FileOwner(user: 0, group: 0, userName: settings.user, groupName: settings.user)
    var steps: [Step] = [
      .createDirectory(settings.configDirectory, mode: 0o755, owner: nil),
      .createDirectory(settings.dataDirectory, mode: 0o750, owner: owner),
      .createDirectory(settings.stateDirectory, mode: 0o755, owner: nil),
      .createDirectory("/etc/consul-bootstrap", mode: 0o755, owner: nil),
    ]
    if facts.programPath != program { steps.append(.copyProgram(from: facts.programPath, to: program)) }
    if facts.hasSystemd { steps += units(owner) }
    return steps + documents.map { .writeFile(path: $0.path, text: $0.text) } + [
      .writeFile(path: Self.logRotationPath, text: Self.logRotation)
    ]
  }

  /// Whatever a run has written is more to the point than what stands here; a unit of somebody else's is a run's matter.
  private func units(_ owner: FileOwner) -> [Step] {
    var steps: [Step] = []
    if facts.agentUnit == .absent {
      let agent = SystemdUnit(
        agent: Command(facts.consulPath, ["agent", "-config-dir=\(settings.configDirectory)"]),
        leave: Command(facts.consulPath, ["leave"]),
        owner: owner,
        bindsLowPorts: false)
      steps.append(.writeUnit(path: SystemdUnit.path, text: agent.text))
    }
    if facts.sidecarUnit == .absent {
      steps.append(
        .writeUnit(
          path: SidecarUnit.path, text: SidecarUnit(program: program, settings: settings, environment: [:]).text))
    }
    if !steps.isEmpty, facts.isBootedBySystemd { steps.append(.run(Command("/bin/systemctl", ["daemon-reload"]))) }
    return steps
  }

  /// What `install` made, as far as nobody uses it.
  package var removal: [Step] {
    var steps: [Step] = []
    let isOurs = { (content: FileContent) in
      if case .text(let text) = content { text.hasPrefix(SystemdUnit.header) } else { false }
    }
    if isOurs(facts.sidecarUnit) {
      if facts.isBootedBySystemd {
        steps.append(.run(Command("/bin/systemctl", ["disable", "--now", SidecarUnit.name])))
      }
      steps.append(.removeFile(SidecarUnit.path))
    }
    if isOurs(facts.agentUnit), !facts.hasConfiguration { steps.append(.removeFile(SystemdUnit.path)) }
    if !steps.isEmpty, facts.isBootedBySystemd { steps.append(.run(Command("/bin/systemctl", ["daemon-reload"]))) }
    return steps + documents.map { .removeFile($0.path) } + [
      .removeFile(Self.logRotationPath), .removeFile(Self.programPath),
    ]
  }

  /// What stays after it, for people.
  package var remains: [String] {
    (facts.hasConfiguration ? ["\(SystemdUnit.name), which may run the agent", settings.configDirectory] : [])
      + [settings.dataDirectory, settings.stateDirectory, "user \(settings.user)"]
  }

  /// `delaycompress`: what is read to its end is not compressed before.
  private static let logRotation = """
    \(Settings.ownLogPath) {
      weekly
      maxsize 16M
      rotate 4
      compress
      delaycompress
      missingok
      notifempty
    }

    """
}
