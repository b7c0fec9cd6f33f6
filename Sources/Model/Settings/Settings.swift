package import Base

/// The validated options of one command: everything that decides what it does.
///
/// The types of the properties and what is derived from them are in the files of their themes: `MembershipSettings`,
/// `NetworkSettings`, `SecuritySettings`, `AgentSettings`, `LogSettings` and `SettingsPaths`.
package struct Settings: Sendable, Equatable {
  // MARK: Membership and layout

  /// Role of this instance in the cluster.
  package var role = Role.server
  /// One datacenter, or one for each availability zone.
  package var layout = Layout.single
  /// Which instances are the servers.
  package var membership = Membership.ownGroup
  /// Number of servers of one datacenter; nil: the group's desired capacity, per zone its share of it.
  package var expect: Int?
  /// Which servers `retry_join` lists.
  package var join = Join.all
  /// Maximum time to wait for a complete group.
  package var waitTimeout = Duration.seconds(600)
  /// Maximum time that peers may have raft state but no leader before that counts as a lost quorum.
  ///
  /// A first election takes 1 to 3 seconds tuned and up to 35 with Consul's defaults, an election after the death of a
  /// leader up to 15 (measured with five servers).
  package var leaderWait = Duration.seconds(40)
  /// Maximum time that a new datacenter waits for the servers of the other zones.
  package var wanWait = Duration.seconds(60)
  /// Verification fails unless every known server of all datacenters is in the WAN pool.
  package var requiresWAN = false
  /// Maximum time to wait until the agent is healthy.
  package var verifyTimeout = Duration.seconds(300)
  /// Maximum random delay before the first AWS call of a run; nil: 10 s for clients, none for servers.
  ///
  /// EC2 refills 20 filtered Describe calls a second (EC2 Developer Guide, "Request throttling"): 200 clients over 10
  /// s.
  package var startJitter: Duration?
  /// Average interval between two polls of the sidecar.
  package var sidecarInterval = Duration.seconds(30)
  /// IDs of instances whose data will not come back, in the word of an operator.
  package var assumedDead: Set<String> = []
  /// Path of the cluster's record in Parameter Store, without a slash at its end; nil: no record.
  package var clusterRecord: String?
  /// What a boot does when every server that the record names is gone.
  package var onTotalLoss = OnTotalLoss.refuse
  package var recovery = RecoveryMode.manual
  /// Launch hook to complete; nil: none.
  package var lifecycleHook: String?
  /// Termination hook to complete once this server has left; nil: none.
  package var terminationHook: String?
  /// For how long a server whose group terminates it waits until the others could lose one more.
  package var leaveWait = Duration.seconds(300)
  /// Between the end of a client's services in DNS and its departure.
  package var drain = Duration.zero

  // MARK: Network

  /// Address that the agent binds.
  package var bind = AddressChoice.private
  /// Address that the agent advertises; nil: the bound address.
  package var advertise: AddressChoice?
  /// Kind of address under which servers of different datacenters reach each other.
  package var wanAddress = WANAddress.private
  /// Addresses of the agent's HTTP and DNS interfaces.
  package var clientAddress = ClientAddress.loopback
  /// How this machine resolves Consul's names.
  package var dns = DNS.none
  /// Reverse lookups of the VPC's addresses go to the agent, too.
  package var resolvesReverse = false
  /// Additional address of the agent's DNS interface; nil: none.
  package var dnsAddress: DNSAddress?
  /// Ports that other files of the configuration directory set, by their keys.
  package var inheritedPorts: [String: Int64] = [:]
  /// TLS between servers as `--set`, `--merge` and other files of the configuration directory set it.
  package var inheritedTLS = InheritedTLS()
  /// Upstream resolvers of the agent; empty: those of this machine, if `dns` is set.
  package var recursors: [IPv4Address] = []

  // MARK: The agent

  /// Name of the datacenter in the single layout.
  package var datacenter = "dc1"
  /// What a datacenter is named after in the layout of one per zone.
  package var datacenterSource = DatacenterSource.zoneName
  /// Node name of the agent.
  package var nodeName = NameTemplate("{instance_id}")!
  /// Host name to set; nil: unchanged.
  package var hostName: NameTemplate?
  /// Consul's `log_level`.
  package var consulLogLevel = "info"
  /// Enables the web UI.
  package var ui = false
  /// Consul's `raft_multiplier`; 1 is HashiCorp's value for production.
  package var raftMultiplier = 1
  /// Consul's `retry_interval`.
  package var retryInterval = Duration.seconds(1)
  /// Autopilot's `server_stabilization_time`; nil: 1 s, and an existing cluster keeps its own.
  package var serverStabilizationTime: Duration?
  /// Autopilot's `cleanup_dead_servers`; nil: not written.
  package var cleanupDeadServers: Bool?
  /// Autopilot's `last_contact_threshold`; nil: not written.
  package var lastContactThreshold: Duration?
  /// Autopilot's `min_quorum`; nil: not written.
  package var minQuorum: Int?
  /// The leader's sidecar removes members whose instances are proven terminated.
  package var reapsDeadMembers = true
  /// Consul's `leave_on_terminate`.
  package var leaveOnTerminate = true
  /// Syslog facility of the agent; nil: no syslog.
  package var syslog: String?
  /// Where the agent sends its metrics.
  package var telemetry: [Telemetry] = []
  /// Documents merged over the configuration, the last one last.
  package var overlays: [Overlay] = []
  /// How the agent runs; nil: under systemd where it is the init system, else supervised.
  package var start: Start?
  /// Consul image for `--start docker`.
  package var image: String?
  /// Image of registrator, which runs beside the agent; nil: none.
  package var registratorImage: String?
  /// User that runs the agent and owns its files.
  package var user = "consul"

  // MARK: Security

  /// Where the gossip key is stored; nil: gossip is not encrypted.
  package var gossipKey: SecretReference?
  /// A run creates the gossip key at `gossipKey` if it does not exist.
  package var createsGossipKey = false
  /// Where the agent's own ACL token is stored; nil: none.
  package var agentToken: SecretReference?
  /// TLS between agents.
  package var tls = TLS()
  /// Consul's `acl.default_policy`, `allow` or `deny`; nil: ACLs are disabled.
  package var aclDefaultPolicy: String?
  /// Requires gossip encryption, TLS and ACLs; refuses options that weaken them.
  package var isProduction = false

  // MARK: Paths

  /// Consul binary; nil: the first `consul` in PATH.
  package var consulPath: String?
  /// Configuration directory of the agent.
  package var configDirectory = "/etc/consul.d"
  /// Data directory of the agent.
  package var dataDirectory = "/opt/consul"
  /// State directory of this program.
  package var stateDirectory = "/var/lib/consul-bootstrap"
  /// Keeps a data directory that another instance created instead of renaming it.
  package var keepData = false

  // MARK: Logs

  /// Sources to forward.
  package var logs: [LogRequest] = []
  /// Template of the log group's name; see `logFields`.
  package var logGroup = "/consul/{datacenter}"
  /// Template of the log stream's name; see `logFields`.
  package var logStream = "{instance_id}/{source}"
  /// Retention in days of the log groups that this program creates; nil: events never expire.
  package var logRetention: Int?
  /// Tags of the log groups that this program creates.
  package var logTags: [Tag] = []
  /// POSIX extended regular expression for the first line of each record; nil: each line is a record.
  package var multilineStart: String?
  /// Maximum size in bytes of unacknowledged events in memory.
  package var logMemory = 8 << 20
  /// Maximum size in bytes of the supervised agent's output on disk while CloudWatch cannot be reached.
  package var logQueue = 64 << 20
  /// Maximum time that an event waits for its batch to fill.
  package var flushInterval = Duration.seconds(1)
  /// Maximum time to send pending events when forwarding ends.
  package var flushTimeout = Duration.seconds(10)
  /// AWS's log agent that forwards instead; nil: this program forwards.
  package var logAgent: LogAgent?
  /// Maximum time without new events in a stream of that agent, while its file grows, before it counts as stalled.
  package var logAgentPatience = Duration.seconds(3600)
  /// Where the metrics of log forwarding are served; nil: nowhere.
  package var metricsAddress: ServedAddress?

  // MARK: The sidecar

  /// Options that were set explicitly, by name: the sidecar runs with the same.
  package var givenOptions: [String: JSONValue] = [:]
  /// Names of those that the last run had set, and that no stronger source sets now.
  package var optionsOfLastRun: [String] = []
  /// Why the options of the last run are not known, although there was one; nil if they are.
  package var lostOptions: String?

  package init() {}
}
