extension Settings {
  /// The configuration file that this program writes.
  package var configurationPath: String { configDirectory + "/00-consul-bootstrap.json" }

  /// Directory of the certificates and keys that come from a secret store.
  package var tlsDirectory: String { configDirectory + "/tls" }

  /// The options of the last run, which the sidecar reads at each start, and the next run where it has no others.
  package var sidecarConfigurationPath: String { stateDirectory + "/options.json" }

  /// Held by the process that supervises the agent, from its verification to its end.
  package var supervisorLockPath: String { "\(stateDirectory)/\(Self.supervisorLock)" }
  package static let supervisorLock = "supervisor.lock"

  /// Records to which instance the state and data directories belong.
  package var instanceRecordPath: String { stateDirectory + "/instance.json" }

  /// The identity of the cluster whose data this server holds.
  package var clusterIdentityPath: String { stateDirectory + "/cluster.json" }

  /// What this server knows of the cluster's record.
  package var rememberedRecordPath: String { stateDirectory + "/cluster-record.json" }

  /// The sidecar's report on the cluster's identity, for `status` and `doctor`.
  package var identityReportPath: String { stateDirectory + "/identity.json" }

  /// The sidecar's report on log forwarding, for `status`.
  package var logReportPath: String { stateDirectory + "/log-status.json" }

  /// How a departure from the cluster goes on, for `status`.
  package var departureReportPath: String { stateDirectory + "/departure.json" }

  /// What the sidecar knows of an outage of the cluster.
  package var outageReportPath: String { stateDirectory + "/outage.json" }

  /// That a person wants the cluster recovered.
  package var recoveryRequestPath: String { stateDirectory + "/recovery-request.json" }

  /// The sidecar's sign of life, for `status` and `doctor`.
  package var sidecarReportPath: String { stateDirectory + "/sidecar.json" }

  /// This program's own log, if it is forwarded.
  package static let ownLogPath = "/var/log/consul-bootstrap.log"
}
