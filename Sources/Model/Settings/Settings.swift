package import Base

/// What the person asked for, validated: the high end of the options.
package struct Settings: Sendable, Equatable {
  /// Which instances are the group.
  package enum Membership: Sendable, Equatable {
    /// The Auto Scaling group that this instance belongs to.
    case ownGroup
    case groups([String])
    case tags([Tag])
  }

  package struct Tag: Sendable, Equatable {
    package let key: String
    package let value: String

    package init(key: String, value: String) {
      self.key = key
      self.value = value
    }
  }

  package enum Role: String, Sendable, CaseIterable {
    case server, client
  }

  /// What a datacenter is.
  package enum Layout: String, Sendable, CaseIterable {
    case single
    /// Each availability zone is one, WAN-joined with the others.
    case datacenterPerAZ = "datacenter-per-az"
  }

  /// Which name of its zone a datacenter gets. Names map to other zones in other accounts, ids do not.
  package enum DatacenterSource: String, Sendable, CaseIterable {
    case zoneName = "zone-name"
    case zoneID = "zone-id"
  }

  /// Under which addresses servers of different datacenters meet.
  package enum WANAddress: String, Sendable, CaseIterable {
    case `private`, `public`
  }

  /// One address of this machine's.
  package enum AddressChoice: Sendable, Equatable {
    /// The primary private address of the primary interface.
    case `private`
    case `public`
    case interface(String)
    case network(IPv4Network)
    case address(IPv4Address)
  }

  /// How the machine's names are resolved.
  package enum DNS: String, Sendable, CaseIterable {
    case none
    case systemdResolved = "systemd-resolved"
    case dnsmasq
    case port53 = "port-53"
  }

  /// Where else the agent's DNS interface listens.
  package enum DNSAddress: Sendable, Equatable {
    /// Docker's bridge, for containers.
    case dockerBridge
    case address(IPv4Address)
  }

  /// TLS between agents.
  package struct TLS: Sendable, Equatable {
    package var ca: SecretReference?
    package var cert: SecretReference?
    package var key: SecretReference?
    /// Nil: true with `--production`, otherwise not written.
    package var verifyIncoming: Bool?
    package var verifyOutgoing: Bool?
    package var verifyServerHostname: Bool?
    package var autoEncrypt = false

    package init() {}
  }

  package struct Telemetry: Sendable, Equatable {
    package enum Sink: String, Sendable, CaseIterable { case statsd, dogstatsd, statsite, prometheus }

    package let sink: Sink
    /// `host:port`, or the retention time for prometheus.
    package let value: String

    package init(sink: Sink, value: String) {
      self.sink = sink
      self.value = value
    }
  }

  /// Whom `retry_join` names.
  package enum Join: String, Sendable, CaseIterable {
    /// Every counted server but this one.
    case all
    /// The numerically lowest address.
    case leader
  }

  /// How the agent is started.
  package enum Start: String, Sendable, CaseIterable {
    case systemd, supervise, docker, none
  }

  /// A file laid over the configuration, as read.
  package struct Overlay: Sendable, Equatable {
    /// The option and its value, for messages.
    package let origin: String
    package let value: JSONValue

    package init(origin: String, value: JSONValue) {
      self.origin = origin
      self.value = value
    }
  }

  package var role = Role.server
  package var layout = Layout.single
  package var membership = Membership.ownGroup
  /// Servers of one datacenter; nil: the group's desired capacity, in the layout of a datacenter per zone this zone's share.
  package var expect: Int?
  /// Up to so long a run waits at random before it asks AWS for the first time; nil: 10 s for clients, none for servers.
  /// EC2 refills 20 filtered Describe calls a second (EC2 Developer Guide, "Request throttling"): 200 clients over 10 s.
  package var startJitter: Duration?
  package var join = Join.all
  package var waitTimeout = Duration.seconds(600)
  /// How long peers with raft state may be without a leader before that is an outage. A first election takes 1 to 3
  /// seconds tuned and up to 35 with Consul's defaults, one after a leader's death up to 15 (measured, five servers).
  package var leaderWait = Duration.seconds(40)
  package var verifyTimeout = Duration.seconds(300)

  /// How long the servers of other zones may take to be there before a new datacenter goes on without them.
  package var wanWait = Duration.seconds(60)
  package var requiresWAN = false
  package var wanAddress = WANAddress.private
  /// Between two looks of the sidecar, on average.
  package var sidecarInterval = Duration.seconds(30)

  /// Of the single layout.
  package var datacenter = "dc1"
  package var datacenterSource = DatacenterSource.zoneName
  package var bind = AddressChoice.private
  /// Nil: the bound address.
  package var advertise: AddressChoice?
  package var nodeName = NameTemplate("{instance_id}")!
  package var hostName: NameTemplate?
  /// Nil: loopback and the private address.
  package var clientAddress: String?
  package var consulLogLevel = "info"
  package var ui = false
  /// 1 is HashiCorp's value for production.
  package var raftMultiplier = 1
  package var retryInterval = Duration.seconds(1)
  package var serverStabilizationTime = Duration.seconds(1)
  package var cleanupDeadServers: Bool?
  package var lastContactThreshold: Duration?
  package var minQuorum: Int?
  package var leaveOnTerminate = true
  package var gossipKey: SecretReference?
  /// The gossip key is made if it does not exist; `gossipKey` is the same parameter then.
  package var createsGossipKey = false
  package var agentToken: SecretReference?
  package var tls = TLS()
  /// `allow` or `deny`; nil: ACLs are off.
  package var aclDefaultPolicy: String?
  package var isProduction = false
  package var telemetry: [Telemetry] = []
  /// The facility; nil: no syslog.
  package var syslog: String?
  package var dns = DNS.none
  package var resolvesReverse = false
  package var dnsAddress: DNSAddress?
  package var recursors: [IPv4Address] = []
  package var overlays: [Overlay] = []

  package var consulPath: String?
  package var configDirectory = "/etc/consul.d"
  package var dataDirectory = "/opt/consul"
  package var stateDirectory = "/var/lib/consul-bootstrap"
  package var keepData = false
  /// The agent's user.
  package var user = "consul"
  /// Nil: systemd where it is the init system, supervise elsewhere.
  package var start: Start?
  package var lifecycleHook: String?
  /// Of Consul, for `--start docker`.
  package var image: String?
  /// Of registrator, beside it.
  package var registratorImage: String?

  package var logs: [LogRequest] = []
  /// Templates; see `logFields`.
  package var logGroup = "/consul/{datacenter}"
  package var logStream = "{instance_id}/{source}"
  /// Days; nil: for ever.
  package var logRetention: Int?
  /// Of log groups that are made here.
  package var logTags: [Tag] = []
  /// A POSIX extended regular expression for the first line of every record; nil: each line is a record.
  package var multilineStart: String?
  /// Bytes for what is read and not accepted yet.
  package var logMemory = 8 << 20
  /// Bytes on disk for what the agent writes while the service is away, under supervise.
  package var logQueue = 64 << 20
  /// Nil: this program forwards.
  package var logAgent: LogAgent?
  /// How long a stream of that agent's may receive nothing while its file goes on.
  package var logAgentPatience = Duration.seconds(3600)
  /// Where the numbers of the forwarding are served; nil: nowhere.
  package var metricsAddress: ServedAddress?
  /// How long a line waits for more to go with it.
  package var flushInterval = Duration.seconds(1)
  /// How long an end waits for what is not sent yet.
  package var flushTimeout = Duration.seconds(10)

  package init() {}

  /// What may stand in `logGroup` and `logStream`. `source` is left for each source to fill in.
  package static let logFields = ["az", "datacenter", "group", "hostname", "instance_id", "source"]

  /// This program's own log, where it is forwarded.
  package static let ownLogPath = "/var/log/consul-bootstrap.log"

  /// What is to be forwarded, with what is said of it alone.
  package struct LogRequest: Sendable, Equatable {
    package var source: LogSource
    package var group: String?
    package var stream: String?
    package var retention: Int?
    package var multilineStart: String?
    /// The member of JSON lines that holds the time.
    package var timestampKey: String?

    package init(source: LogSource) { self.source = source }
  }

  /// A forwarder of AWS's own that is used instead.
  package enum LogAgent: String, Sendable, CaseIterable {
    case awslogs
    case cloudWatchAgent = "amazon-cloudwatch-agent"
  }

  package var tagsOfLogGroups: [String: String] {
    Dictionary(logTags.map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last })
  }

  package func forwards(_ source: LogSource) -> Bool { logs.contains { $0.source == source } }

  /// A port of the agent's by its key under `ports`, as the overlays have it; not positive where they switch it off.
  package func port(_ key: String, otherwise standard: Int64) -> Int64 {
    overlays.reduce(standard) { port, overlay in overlay.value["ports"]?[key]?.integer ?? port }
  }

  /// Where the agent serves DNS.
  package var dnsPort: Int64 { port("dns", otherwise: dns == .port53 ? 53 : 8600) }

  /// Of every server's HTTP API: the servers of a group are configured alike.
  package var httpPort: Int64 { port("http", otherwise: 8500) }

  package var configurationPath: String { configDirectory + "/00-consul-bootstrap.json" }

  /// The options as they were given, by name: what a sidecar is asked with.
  package var given: [String: JSONValue] = [:]

  /// What the sidecar is asked with at each boot: this run's options, as it got them.
  package var sidecarConfigurationPath: String { stateDirectory + "/options.json" }

  /// Records which instance the state and the data directory belong to.
  package var instanceRecordPath: String { stateDirectory + "/instance.json" }

  /// The sidecar's report on log forwarding, for `status`.
  package var logReportPath: String { stateDirectory + "/log-status.json" }

  package var tlsDirectory: String { configDirectory + "/tls" }

  /// Where AWS needs to be asked for secrets.
  package var secretReferences: [SecretReference] {
    [gossipKey, agentToken, tls.ca, tls.cert, tls.key].compactMap { $0 }
  }
}
