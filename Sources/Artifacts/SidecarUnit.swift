internal import Base
package import Model

extension SidecarUnit {
  /// Settings of the AWS tools that a service needs as well as the run that wrote it; none of these is a secret.
  private static let passedVariables = [
    "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE", "AWS_MAX_ATTEMPTS",
    "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
  ]

  /// - `Type=notify`: ready once it runs, whatever AWS says; so nobody who starts it hangs.
  /// - `WatchdogSec`: a process that hangs is killed and started again.
  /// - Nothing of the system is writable but the configuration, our own state and our own log. What it may forward is
  ///   anywhere: nothing is hidden from it.
  /// - Neither `ProtectKernelTunables` nor `ProtectControlGroups`: with either, journalctl in a unit of a systemd-nspawn
  ///   container finds no entry behind a cursor (systemd 252).
  /// - Memory and weights: its trouble is never the agent's. At most 24 MiB are its own; journalctl and the page cache count, too.
  /// - `Restart=always`: its end is never wanted, and never the agent's.
  package init(program: String, settings: Settings, environment: [String: String]) {
    let optionsPath = settings.sidecarConfigurationPath
    var writable = [settings.configDirectory, settings.stateDirectory]
    // Made by the first line, and renamed.
    if settings.forwards(.bootstrap) { writable.append("/var/log") }
    if case .unix(let path)? = settings.metricsAddress {
      writable.append("-" + (path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "/run"))
    }
    let variables = environment.filter { key, value in
      (Self.passedVariables.contains(key) || key.hasPrefix("AWS_ENDPOINT_URL")) && !value.isEmpty
        && !value.contains("@") && !value.contains("\"")
        && !value.contains("\n")
    }
    let lines = variables.sorted { $0.key < $1.key }.map {
      "Environment=\"\($0.key)=\($0.value.replacing("%", with: "%%"))\"\n"
    }.joined()
    let text = """
      \(SystemdUnit.header), which overwrites it. For changes of your own: systemctl edit consul-bootstrap
      [Unit]
      Description=consul-bootstrap sidecar: keeps the Consul agent joined
      Wants=network-online.target
      After=network-online.target \(SystemdUnit.name)
      ConditionPathExists=\(optionsPath)
      StartLimitIntervalSec=0

      [Service]
      Type=notify
      NotifyAccess=main
      WatchdogSec=120
      \(lines)ExecStart=\(Command(program, ["sidecar", "--config", optionsPath]).text)
      ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
      Restart=always
      RestartSec=10
      TimeoutStopSec=\(settings.flushTimeout.components.seconds + 20)
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
    self.init(text: text, optionsPath: optionsPath, options: JSONValue.object(settings.given).prettyText)
  }
}
