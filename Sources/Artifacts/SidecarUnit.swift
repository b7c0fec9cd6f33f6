internal import Base
package import Model

extension Settings {
  /// What `options.json` holds: references to secrets, never a secret.
  package var recordedOptions: String { JSONValue.object(givenOptions).prettyText }
}

extension SidecarUnit {
  /// Settings of the AWS SDKs that a service needs as well as the run that wrote it. None of them is a secret.
  private static let passedVariables: Set = [
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE", "AWS_MAX_ATTEMPTS", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
  ]

  /// Environment variables of a run that its sidecar needs, too: neither credentials nor a URL that may contain some,
  /// nor what a unit file cannot quote.
  package static func environment(of run: [String: String]) -> [String: String] {
    run.filter { key, value in
      (passedVariables.contains(key) || key.hasPrefix("AWS_ENDPOINT_URL")) && !value.isEmpty
        && !value.contains { $0 == "@" || $0 == "\"" || $0.isNewline }
    }
  }

  /// The sidecar's unit.
  /// - `Type=notify`: ready once it runs, whatever AWS answers, so that a start never blocks.
  /// - `WatchdogSec`: a process that hangs is killed and restarted.
  /// - The conditions: a run has configured the agent. Either file is enough: without its options, or without the whole
  ///   state directory, the sidecar starts from the agent's configuration and reports what was lost.
  /// - Only the configuration, the state and the log of this program are writable, and a server's data directory, whose
  ///   raft data may have to be renamed. Everything is readable: logs to
  ///   forward may be anywhere.
  /// - Neither `ProtectKernelTunables` nor `ProtectControlGroups`: with either, journalctl in a unit of a
  ///   systemd-nspawn container finds no entry after a cursor (systemd 252).
  /// - Memory limits and weights: an overload of the sidecar never affects the agent. The sidecar itself uses at most
  ///   24 MiB; journalctl and the page cache count, too.
  /// - `Restart=always`: the sidecar never ends by itself, and its end never affects the agent.
  /// - Parameter environment: variables for the unit, from `environment(of:)`.
  package init(program: String, settings: Settings, environment: [String: String]) {
    let optionsPath = settings.sidecarConfigurationPath
    // The state directory may be missing until `ExecStartPre` has created it, in a namespace of its own.
    var writable = [settings.configDirectory, "-" + settings.stateDirectory]
    if settings.role == .server { writable.append("-" + settings.dataDirectory) }
    // The log is created by the first line, and rotated by a rename.
    if settings.forwards(.bootstrap) { writable.append("/var/log") }
    if case .unix(let path)? = settings.metricsAddress {
      writable.append("-" + parentDirectory(of: path))
    }
    let lines = environment.sorted { $0.key < $1.key }.map {
      "Environment=\"\($0.key)=\($0.value.replacing("%", with: "%%"))\"\n"
    }.joined()
    // The sidecar must find both without its options, too.
    var directories: [String] = []
    if settings.configDirectory != Settings().configDirectory {
      directories += ["--config-dir", settings.configDirectory]
    }
    if settings.stateDirectory != Settings().stateDirectory { directories += ["--state-dir", settings.stateDirectory] }
    // An agent in a container leaves by the sidecar: as long as that may take, and before Docker stops.
    let isDocker = settings.start == .docker
    let stopMargin: Int64 = isDocker ? 80 : 20
    let after = isDocker ? "docker.service" : SystemdUnit.name
    let text = """
      \(SystemdUnit.header), which overwrites it. Add changes with: systemctl edit consul-bootstrap
      [Unit]
      Description=consul-bootstrap sidecar: keeps the Consul agent joined
      Wants=network-online.target
      After=network-online.target \(after)
      ConditionPathExists=|\(optionsPath)
      ConditionPathExists=|\(settings.configurationPath)
      StartLimitIntervalSec=0

      [Service]
      Type=notify
      NotifyAccess=main
      WatchdogSec=120
      \(lines)ExecStartPre=+\(Command("/bin/mkdir", ["-p", settings.stateDirectory]).text)
      ExecStart=\(Command(program, ["sidecar", "--config", optionsPath] + directories).text)
      ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
      Restart=always
      RestartSec=10
      TimeoutStopSec=\(min(settings.flushTimeout.components.seconds, .max - stopMargin) + stopMargin)
      MemoryHigh=\((settings.logMemory >> 20) + 88)M
      MemoryMax=\((settings.logMemory >> 20) + 184)M
      TasksMax=64
      CPUWeight=20
      IOWeight=20
      OOMScoreAdjust=500
      LimitCORE=0
      NoNewPrivileges=true
      ProtectSystem=strict
      ProtectHome=read-only
      ReadWritePaths=\(writable.joined(separator: " "))
      ProtectKernelModules=true
      ProtectClock=true
      RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
      RestrictNamespaces=true
      RestrictRealtime=true
      RestrictSUIDSGID=true
      LockPersonality=true
      MemoryDenyWriteExecute=true
      SystemCallArchitectures=native

      [Install]
      WantedBy=multi-user.target

      """
    self.init(text: text, optionsPath: optionsPath, options: settings.recordedOptions)
  }
}
