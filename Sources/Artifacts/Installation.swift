package import Base
package import Model

/// The steps of `consul-bootstrap install` and `uninstall`: everything that every run needs, for an image or an
/// existing machine. They start and configure nothing.
package struct Installation: Sendable {
  /// The state of this machine.
  package struct Facts: Sendable {
    /// The agent's user; nil if it does not exist yet.
    package var owner: FileOwner?
    /// Path of the running program.
    package var programPath: String
    package var consulPath: String
    /// There is a directory for units.
    package var hasSystemd: Bool
    /// systemd is running: in an image that is being built it is not.
    package var isBootedBySystemd: Bool
    package var agentUnit: FileContent
    package var sidecarUnit: FileContent
    /// A run has configured the agent.
    package var hasConfiguration: Bool

    package init(
      owner: FileOwner?, programPath: String, consulPath: String, hasSystemd: Bool, isBootedBySystemd: Bool,
      agentUnit: FileContent, sidecarUnit: FileContent, hasConfiguration: Bool
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
  /// Where the .deb and .rpm packages install the program.
  private static let packagedPath = "/usr/bin/consul-bootstrap"
  private static let logRotationPath = "/etc/logrotate.d/consul-bootstrap"

  private let settings: Settings
  private let facts: Facts
  /// Completions and the manual page.
  private let documents: [(path: String, text: String)]

  package init(_ settings: Settings, _ facts: Facts, documents: [(path: String, text: String)]) {
    self.settings = settings
    self.facts = facts
    self.documents = documents
  }

  private var program: String { facts.programPath == Self.packagedPath ? Self.packagedPath : Self.programPath }

  /// Creates the agent's user; nil if it exists. It comes first: the directories belong to the user.
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
    // A dry run on a machine without the user prints only its name.
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

  /// Units that do not exist yet. A run's own units have its options, and another program's unit is replaced only by a
  /// run.
  private func units(_ owner: FileOwner) -> [Step] {
    var steps: [Step] = []
    if facts.agentUnit == .absent {
      let agent = SystemdUnit(
        agent: Command(facts.consulPath, ["agent", "-config-dir=\(settings.configDirectory)"]),
        beforeStart: nil, leave: Command(program, ["leave", "--stopping"]),
        owner: owner,
        bindsLowPorts: false)
      steps.append(.writeUnit(path: SystemdUnit.path, text: agent.text))
    }
    if facts.sidecarUnit == .absent {
      steps.append(
        .writeUnit(
          path: SidecarUnit.path, text: SidecarUnit(program: program, settings: settings, environment: [:]).text))
    }
    if !steps.isEmpty, facts.isBootedBySystemd { steps.append(.run(.systemctl("daemon-reload"))) }
    return steps
  }

  /// Removes what `install` created, except what may run an agent.
  package var removal: [Step] {
    var steps: [Step] = []
    let isOurs = { (content: FileContent) in
      if case .text(let text) = content { text.hasPrefix(SystemdUnit.header) } else { false }
    }
    if isOurs(facts.sidecarUnit) {
      if facts.isBootedBySystemd {
        steps.append(.run(.systemctl("disable", "--now", SidecarUnit.name)))
      }
      steps.append(.removeFile(SidecarUnit.path))
    }
    if isOurs(facts.agentUnit), !facts.hasConfiguration { steps.append(.removeFile(SystemdUnit.path)) }
    if !steps.isEmpty, facts.isBootedBySystemd { steps.append(.run(.systemctl("daemon-reload"))) }
    return steps + documents.map { .removeFile($0.path) } + [
      .removeFile(Self.logRotationPath), .removeFile(Self.programPath),
    ]
  }

  /// What the removal leaves, for the report.
  package var remains: [String] {
    (facts.hasConfiguration ? ["\(SystemdUnit.name), which may run the agent", settings.configDirectory] : [])
      + [settings.dataDirectory, settings.stateDirectory, "user \(settings.user)"]
  }

  /// `delaycompress`: the sidecar reads a rotated file to its end before it is compressed.
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
