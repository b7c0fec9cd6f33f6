package import Base
package import Model

extension SystemdUnit {
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
    self.init(
      text: """
        \(Self.header), which overwrites it. For changes of your own: systemctl edit consul
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

        """)
  }
}
