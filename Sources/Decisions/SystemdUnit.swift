package import Base

/// The unit that runs the agent.
package struct SystemdUnit: Sendable, Equatable {
  package static let name = "consul.service"
  package static let path = "/etc/systemd/system/consul.service"
  /// Its first line; a unit without it is somebody else's.
  package static let mark = "# Written by consul-bootstrap"

  package let text: String

  /// - `Type=exec`: readiness by `notify` comes only after a join, which the first server of a cluster waits for in vain.
  /// - `Restart=on-failure` restarts a crash, but not a clean leave, which `always` would undo.
  /// - `ExecReload` by the shell's own kill: small images have no other.
  /// - No start limit: a bad start is tried again every `RestartSec`, and mends itself once its reason is mended.
  /// - `ExecStop` leaves through the API: after SIGTERM, Consul 1.8 takes a peer's broken connection for a second signal and
  ///   cuts its leave off. Where the API refuses (ACLs), SIGTERM follows.
  /// - `TimeoutStopSec`: a graceful leave drains for 5 s and waits up to 5 s for raft; a minute cuts no leave off.
  /// - Capability for ports below 1024: the agent's user has none of its own.
  package init(agent: Command, leave: Command?, owner: FileOwner?, bindsLowPorts: Bool) {
    let capability = bindsLowPorts && owner != nil ? "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" : ""
    let user = owner.map { "User=\($0.userName)\nGroup=\($0.groupName)\n" } ?? ""
    let stop = leave.map { "ExecStop=-\($0.text)\n" } ?? ""
    text = """
      \(Self.mark), which overwrites it. For changes of your own: systemctl edit consul
      [Unit]
      Description=Consul agent
      Documentation=https://developer.hashicorp.com/consul/docs
      Wants=network-online.target
      After=network-online.target
      StartLimitIntervalSec=0

      [Service]
      Type=exec
      \(user)\(capability)ExecStart=\(agent.text)
      ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
      \(stop)KillMode=mixed
      KillSignal=SIGTERM
      TimeoutStopSec=60
      Restart=on-failure
      RestartSec=2
      LimitNOFILE=65536

      [Install]
      WantedBy=multi-user.target

      """
  }
}

/// The unit that stays beside the agent.
package struct SidecarUnit: Sendable, Equatable {
  package static let name = "consul-bootstrap.service"
  package static let path = "/etc/systemd/system/consul-bootstrap.service"

  package let text: String
  package let optionsPath: String
  /// The options of this run, as a configuration file: what the sidecar is asked with at each boot.
  package let options: String

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
    optionsPath = settings.sidecarConfigurationPath
    options = JSONValue.object(settings.given).prettyText
    var writable = [settings.configDirectory, settings.stateDirectory]
    // Made by the first line, and renamed.
    if settings.forwards("bootstrap") { writable.append("/var/log") }
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
    text = """
      \(SystemdUnit.mark), which overwrites it. For changes of your own: systemctl edit consul-bootstrap
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
  }
}
