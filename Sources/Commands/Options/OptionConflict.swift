internal import Base
internal import Decisions
package import Model

/// A combination of options that is refused before anything is read or written.
package struct OptionConflict: Sendable {
  let message: String
  let hint: String
  /// - Parameter given: names of the options set explicitly by any source.
  let applies: @Sendable (_ settings: Settings, _ given: Set<String>) -> Bool

  /// - Returns: a failure with status 2; nil if nothing conflicts.
  package static func first(in settings: Settings, given: Set<String>) -> Failure? {
    all.first { $0.applies(settings, given) }.map { Failure(.usage, $0.message, hint: $0.hint) }
  }

  private static let all = roleConflicts + layoutConflicts + securityConflicts + machineConflicts

  // MARK: Roles

  /// Options of servers, each with the reason why a client has no use for it.
  private static let serverOptions: [(name: String, reason: String)] = [
    ("expect", "a client does not wait for a number of servers"), ("join", "a client joins any server"),
    ("assume-dead", "a client never forms a cluster"), ("leader-wait", "a client never forms a cluster"),
    ("on-total-loss", "a client never forms a cluster"), ("cluster-record", "a client never forms a cluster"),
    ("wan-wait", "only servers join the WAN pool"),
    ("require-wan", "only servers join the WAN pool"), ("wan-address", "only servers join the WAN pool"),
    ("gossip-key-create", "only servers create the key"), ("raft-multiplier", "a client does not run raft"),
    ("server-stabilization-time", "autopilot manages servers"), ("cleanup-dead-servers", "autopilot manages servers"),
    ("last-contact-threshold", "autopilot manages servers"), ("min-quorum", "autopilot manages servers"),
  ]

  private static let roleConflicts =
    serverOptions.map { option in
      OptionConflict(
        message: "--\(option.name) cannot be combined with --role client: \(option.reason)",
        hint: "omit --\(option.name)"
      ) {
        settings, given in
        settings.role == .client && given.contains(option.name)
      }
    } + [
      OptionConflict(
        message: "--role client requires --group or --tag", hint: "name the group or the tags of the servers"
      ) { settings, _ in settings.role == .client && settings.membership == .ownGroup }
    ]

  // MARK: Layouts

  private static let layoutConflicts =
    ["wan-wait", "require-wan", "wan-address", "datacenter-from"].map { name in
      OptionConflict(
        message: "--\(name) requires --layout datacenter-per-az",
        hint: "omit --\(name); a single datacenter has no WAN pool"
      ) {
        settings, given in settings.layout == .single && given.contains(name)
      }
    } + [
      OptionConflict(
        message:
          "--datacenter cannot be combined with --layout datacenter-per-az: each zone's datacenter is named after it",
        hint: "omit --datacenter, or choose the name's form with --datacenter-from"
      ) { settings, given in settings.layout == .datacenterPerAZ && given.contains("datacenter") }
    ]

  // MARK: Secrets

  private static let securityConflicts = [
    OptionConflict(
      message: "--on-total-loss requires --cluster-record",
      hint: "without a record, no loss of a whole cluster can be told from a first boot"
    ) {
      settings, given in settings.clusterRecord == nil && given.contains("on-total-loss")
    },
    OptionConflict(
      message: "--gossip-key and --gossip-key-create are mutually exclusive",
      hint: "--gossip-key-create creates the key if it does not exist"
    ) {
      _, given in given.contains("gossip-key") && given.contains("gossip-key-create")
    },
    OptionConflict(message: "--tls-cert and --tls-key require each other", hint: "set both") { settings, _ in
      (settings.tls.cert == nil) != (settings.tls.key == nil)
    },
    OptionConflict(message: "--tls-cert requires --tls-ca", hint: "add the CA certificate with --tls-ca") {
      settings, _ in
      settings.tls.cert != nil && settings.tls.ca == nil
    },
    OptionConflict(
      message: "--verify-outgoing, --verify-server-hostname and --tls-auto-encrypt need --tls-ca",
      hint: "add the CA certificate with --tls-ca"
    ) {
      settings, given in
      settings.tls.ca == nil
        && !given.isDisjoint(with: ["verify-outgoing", "verify-server-hostname", "tls-auto-encrypt"])
    },
    OptionConflict(
      message: "--verify-incoming requires --tls-ca, --tls-cert and --tls-key",
      hint: "set all of them, or omit --verify-incoming"
    ) { settings, _ in
      settings.tls.verifyIncoming == true && (settings.tls.ca == nil || settings.tls.cert == nil)
    },
    OptionConflict(
      message: "--tls-auto-encrypt on a server requires --tls-cert and --tls-key",
      hint: "only clients get their certificates from the servers"
    ) {
      settings, _ in settings.tls.autoEncrypt && settings.role == .server && settings.tls.cert == nil
    },
    OptionConflict(
      message: "--tls-auto-encrypt on a client cannot be combined with --tls-cert",
      hint: "omit --tls-cert and --tls-key; the servers issue the certificate"
    ) {
      settings, _ in
      settings.tls.autoEncrypt && settings.role == .client && settings.tls.cert != nil
    },
    OptionConflict(
      message: "--agent-token requires --acl-default-policy",
      hint: "add --acl-default-policy deny"
    ) {
      settings, _ in settings.agentToken != nil && settings.aclDefaultPolicy == nil
    },
    OptionConflict(
      message: "--production requires --gossip-key or --gossip-key-create",
      hint: "create a key with --gossip-key-create ssm:NAME"
    ) { settings, _ in
      settings.isProduction && settings.gossipKey == nil
    },
    OptionConflict(
      message: "--production requires --tls-ca, and --tls-cert and --tls-key or on clients --tls-auto-encrypt",
      hint: "provide the certificates, or omit --production"
    ) { settings, _ in
      settings.isProduction
        && (settings.tls.ca == nil
          || (settings.tls.cert == nil && !(settings.tls.autoEncrypt && settings.role == .client)))
    },
    OptionConflict(
      message: "--production conflicts with an option that weakens it",
      hint:
        "omit --verify-incoming, --verify-outgoing, --verify-server-hostname, --leave-on-terminate, "
        + "--raft-multiplier and --acl-default-policy, or --production"
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
    OptionConflict(message: "--start docker requires --image", hint: "name an image with Consul") { settings, _ in
      settings.start == .docker && settings.image == nil
    },
    OptionConflict(
      message: "--image and --registrator need --start docker", hint: "add --start docker, or omit them"
    ) { settings, given in
      settings.start != .docker && !given.isDisjoint(with: ["image", "registrator"])
    },
    OptionConflict(
      message: "--consul cannot be combined with --start docker", hint: "Consul is in the image; omit --consul"
    ) {
      settings, given in
      settings.start == .docker && given.contains("consul")
    },
    OptionConflict(
      message: "--dns-reverse requires --dns systemd-resolved or --dns dnsmasq",
      hint: "with --dns port-53 the agent answers every query anyway"
    ) {
      settings, _ in settings.resolvesReverse && (settings.dns == .none || settings.dns == .port53)
    },
    OptionConflict(
      message: "--log consul cannot be combined with --start none",
      hint: "choose how the agent starts, or forward journal:UNIT or file:/PATH"
    ) {
      settings, _ in settings.forwards(.consul) && settings.start == Settings.Start.none
    },
    OptionConflict(message: "--log-agent requires --log", hint: "name the sources to forward with --log") {
      settings, _ in
      settings.logAgent != nil && settings.logs.isEmpty
    },
    OptionConflict(
      message: "--log-agent reads files only",
      hint: "omit journal and consul, or omit --log-agent; this program forwards both"
    ) { settings, _ in
      settings.logAgent != nil
        && settings.logs.contains { $0.source != .syslog && $0.source.files(syslogFile: nil) == nil }
    },
    OptionConflict(
      message: "--log-agent cannot be combined with --log-tag", hint: "tag the log group yourself; the agent creates it"
    ) { settings, given in
      settings.logAgent != nil && given.contains("log-tag")
    },
    OptionConflict(message: "--metrics requires --log", hint: "add --log; the metrics are those of log forwarding") {
      settings, _ in
      settings.metricsAddress != nil && settings.logs.isEmpty
    },
    OptionConflict(
      message: "--dns cannot be combined with --start none", hint: "omit --dns; it needs a running agent"
    ) {
      settings, _ in
      settings.start == Settings.Start.none && settings.dns != .none
    },
  ]
}
