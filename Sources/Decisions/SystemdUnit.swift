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
  /// - No start limit: a bad start is tried again every `RestartSec`, and mends itself once its reason is mended.
  /// - `ExecStop` leaves through the API: after SIGTERM, Consul 1.8 takes a peer's broken connection for a second signal and
  ///   cuts its leave off. Where the API refuses (ACLs), SIGTERM follows.
  /// - `TimeoutStopSec`: a graceful leave drains for 5 s and waits up to 5 s for raft; a minute cuts no leave off.
  package init(agent: Command, leave: Command?, owner: FileOwner?) {
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
      \(user)ExecStart=\(agent.text)
      ExecReload=/bin/kill -HUP $MAINPID
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
