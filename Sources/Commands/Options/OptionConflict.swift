package import Base
internal import Decisions
package import Model

/// What does not go together, refused before anything is asked or written.
package struct OptionConflict: Sendable {
  let message: String
  let hint: String
  /// - Parameter given: names of the options that anybody said anything about.
  let applies: @Sendable (_ settings: Settings, _ given: Set<String>) -> Bool

  /// - Returns: a failure with status 2, nil if all goes together.
  package static func first(in settings: Settings, given: Set<String>) -> Failure? {
    all.first { $0.applies(settings, given) }.map { Failure(.usage, $0.message, hint: $0.hint) }
  }

  private static let all = roleConflicts + layoutConflicts + securityConflicts + machineConflicts

  // MARK: Roles

  /// With why a client has no use for it.
  private static let serverOptions: [(name: String, reason: String)] = [
    ("expect", "a client waits for no number of servers"), ("join", "a client joins any server"),
    ("leader-wait", "a client decides about no cluster"), ("wan-wait", "the WAN pool is the servers'"),
    ("require-wan", "the WAN pool is the servers'"), ("wan-address", "the WAN pool is the servers'"),
    ("gossip-key-create", "the servers make the key"), ("raft-multiplier", "a client has no raft"),
    ("server-stabilization-time", "autopilot is the servers'"), ("cleanup-dead-servers", "autopilot is the servers'"),
    ("last-contact-threshold", "autopilot is the servers'"), ("min-quorum", "autopilot is the servers'"),
  ]

  private static let roleConflicts =
    serverOptions.map { option in
      OptionConflict(
        message: "--\(option.name) does not go with --role client: \(option.reason)", hint: "leave out --\(option.name)"
      ) {
        settings, given in
        settings.role == .client && given.contains(option.name)
      }
    } + [
      OptionConflict(
        message: "--role client needs --group or --tag", hint: "name the servers: a client is in none of their groups"
      ) { settings, _ in settings.role == .client && settings.membership == .ownGroup }
    ]

  // MARK: Layouts

  private static let layoutConflicts =
    ["wan-wait", "require-wan", "wan-address", "datacenter-from"].map { name in
      OptionConflict(
        message: "--\(name) needs --layout datacenter-per-az",
        hint: "leave out --\(name): one datacenter has no WAN pool"
      ) {
        settings, given in settings.layout == .single && given.contains(name)
      }
    } + [
      OptionConflict(
        message: "--datacenter does not go with --layout datacenter-per-az: each zone's datacenter is named after it",
        hint: "leave out --datacenter, or choose the name's form with --datacenter-from"
      ) { settings, given in settings.layout == .datacenterPerAZ && given.contains("datacenter") }
    ]

  // MARK: Secrets

  private static let securityConflicts = [
    OptionConflict(
      message: "--gossip-key and --gossip-key-create exclude each other",
      hint: "with --gossip-key-create the key is made if it is missing"
    ) {
      _, given in given.contains("gossip-key") && given.contains("gossip-key-create")
    },
    OptionConflict(message: "--tls-cert and --tls-key need each other", hint: "give both") { settings, _ in
      (settings.tls.cert == nil) != (settings.tls.key == nil)
    },
    OptionConflict(message: "--tls-cert needs --tls-ca", hint: "give the CA's certificate as well") { settings, _ in
      settings.tls.cert != nil && settings.tls.ca == nil
    },
    OptionConflict(
      message: "--verify-outgoing, --verify-server-hostname and --tls-auto-encrypt need --tls-ca",
      hint: "give the CA's certificate"
    ) {
      settings, given in
      settings.tls.ca == nil
        && !given.isDisjoint(with: ["verify-outgoing", "verify-server-hostname", "tls-auto-encrypt"])
    },
    OptionConflict(
      message: "--verify-incoming needs --tls-ca, --tls-cert and --tls-key", hint: "give them, or leave it out"
    ) { settings, _ in
      settings.tls.verifyIncoming == true && (settings.tls.ca == nil || settings.tls.cert == nil)
    },
    OptionConflict(
      message: "--tls-auto-encrypt on a server needs --tls-cert and --tls-key",
      hint: "only clients get their certificates from servers"
    ) {
      settings, _ in settings.tls.autoEncrypt && settings.role == .server && settings.tls.cert == nil
    },
    OptionConflict(
      message: "--tls-auto-encrypt on a client does not go with --tls-cert",
      hint: "the servers give the client its certificate"
    ) {
      settings, _ in
      settings.tls.autoEncrypt && settings.role == .client && settings.tls.cert != nil
    },
    OptionConflict(
      message: "--agent-token needs --acl-default-policy",
      hint: "without ACLs a token has no meaning; deny is the safe policy"
    ) {
      settings, _ in settings.agentToken != nil && settings.aclDefaultPolicy == nil
    },
    OptionConflict(
      message: "--production needs --gossip-key or --gossip-key-create", hint: "gossip is encrypted in production"
    ) { settings, _ in
      settings.isProduction && settings.gossipKey == nil
    },
    OptionConflict(
      message: "--production needs --tls-ca, and --tls-cert and --tls-key or on clients --tls-auto-encrypt",
      hint: "agents speak TLS in production"
    ) { settings, _ in
      settings.isProduction
        && (settings.tls.ca == nil
          || (settings.tls.cert == nil && !(settings.tls.autoEncrypt && settings.role == .client)))
    },
    OptionConflict(
      message: "--production does not go with what weakens it",
      hint:
        "leave out --verify-incoming, --verify-outgoing, --verify-server-hostname, --leave-on-terminate, --raft-multiplier and "
        + "--acl-default-policy, or --production"
    ) { settings, _ in
      let tls = settings.tls
      return settings.isProduction
        && (tls.verifyIncoming == false || tls.verifyOutgoing == false || tls.verifyServerHostname == false
          || !settings.leaveOnTerminate
          || settings.raftMultiplier != 1 || settings.aclDefaultPolicy == "allow")
    },
  ]

  // MARK: The machine

  private static let machineConflicts = [
    OptionConflict(message: "--start docker needs --image", hint: "name the image that holds Consul") { settings, _ in
      settings.start == .docker && settings.image == nil
    },
    OptionConflict(
      message: "--image and --registrator need --start docker", hint: "say --start docker, or leave them out"
    ) { settings, given in
      settings.start != .docker && !given.isDisjoint(with: ["image", "registrator"])
    },
    OptionConflict(message: "--consul does not go with --start docker", hint: "the image holds Consul: --image") {
      settings, given in
      settings.start == .docker && given.contains("consul")
    },
    OptionConflict(
      message: "--dns-reverse needs --dns systemd-resolved or --dns dnsmasq",
      hint: "with --dns port-53 every question goes to the agent anyway"
    ) {
      settings, _ in settings.resolvesReverse && (settings.dns == .none || settings.dns == .port53)
    },
    OptionConflict(
      message: "--log consul does not go with --start none",
      hint: "name what starts the agent, or forward journal:UNIT or file:/PATH"
    ) {
      settings, _ in settings.forwards(.consul) && settings.start == Settings.Start.none
    },
    OptionConflict(message: "--log-agent needs --log", hint: "say what it is to forward") { settings, _ in
      settings.logAgent != nil && settings.logs.isEmpty
    },
    OptionConflict(
      message: "--log-agent reads files only",
      hint: "leave out journal and consul, or --log-agent: this program forwards both"
    ) { settings, _ in
      settings.logAgent != nil
        && settings.logs.contains { $0.source != .syslog && $0.source.path(syslogFile: nil) == nil }
    },
    OptionConflict(
      message: "--log-agent does not go with --log-tag", hint: "tag the log group yourself: the agent makes it"
    ) { settings, given in
      settings.logAgent != nil && given.contains("log-tag")
    },
    OptionConflict(message: "--metrics needs --log", hint: "without it there are no numbers") { settings, _ in
      settings.metricsAddress != nil && settings.logs.isEmpty
    },
    OptionConflict(message: "--dns does not go with --start none", hint: "names are tried on a running agent") {
      settings, _ in
      settings.start == Settings.Start.none && settings.dns != .none
    },
  ]
}
