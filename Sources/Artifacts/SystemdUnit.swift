package import Base
package import Model

extension SystemdUnit {
  /// The agent's unit.
  /// - `Type=exec`: with `notify`, Consul is ready only after a join, for which the first server of a cluster waits in
  ///   vain.
  /// - `Restart=on-failure` restarts the agent after a crash, but not after a clean leave, which `always` would revert.
  /// - `ExecReload` uses the shell's built-in kill: small images have no other.
  /// - No start limit: a failed start is retried every `RestartSec`, and succeeds once its cause is fixed.
  /// - `ExecStartPre` renames raft data that the cluster no longer counts on; as root. The agent starts whatever its
  ///   result is.
  /// - `ExecStop` leaves, as root, if the others keep their quorum, and not for a reboot: several servers that left at
  ///   once would end the cluster for good. Then, or if it may not leave, SIGTERM follows, after which a server ends
  ///   with status 1 and stays a member.
  /// - `SuccessExitStatus`: that end is no failure; `RestartForceExitStatus`: but it is, unless the unit was stopped.
  /// - `TimeoutStopSec`: a graceful leave drains for 5 s and waits up to 5 s for raft; a minute interrupts no leave.
  /// - `AmbientCapabilities`: the agent's user may not bind ports below 1024 by itself.
  package init(agent: Command, beforeStart: Command?, leave: Command?, owner: FileOwner?, bindsLowPorts: Bool) {
    let capability = bindsLowPorts && owner != nil ? "AmbientCapabilities=CAP_NET_BIND_SERVICE\n" : ""
    let user = owner.map { "User=\($0.userName)\nGroup=\($0.groupName)\n" } ?? ""
    let gate = beforeStart.map { "ExecStartPre=-+\($0.text)\n" } ?? ""
    let stop = leave.map { "ExecStop=-+\($0.text)\n" } ?? ""
    self.init(
      text: """
        \(Self.header), which overwrites it. Add changes with: systemctl edit consul
        [Unit]
        Description=Consul agent
        Documentation=https://developer.hashicorp.com/consul/docs
        Wants=network-online.target
        After=network-online.target
        StartLimitIntervalSec=0

        [Service]
        Type=exec
        \(user)\(capability)\(gate)ExecStart=\(agent.text)
        ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
        \(stop)KillMode=mixed
        KillSignal=SIGTERM
        TimeoutStopSec=60
        SuccessExitStatus=1
        RestartForceExitStatus=1
        Restart=on-failure
        RestartSec=2
        LimitNOFILE=65536

        [Install]
        WantedBy=multi-user.target

        """)
  }
}
