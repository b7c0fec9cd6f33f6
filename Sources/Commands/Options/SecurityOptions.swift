internal import Base
internal import Decisions
internal import Model

extension Option {
  static let securityOptions = [
    Option(
      .security, "production", .flag, default: "false",
      "what HashiCorp's production guide asks for: gossip encryption, TLS and ACLs must be given; default policy deny, verify_incoming, "
        + "verify_outgoing and verify_server_hostname true, raft_multiplier 1, graceful leaves"
    ) { value, options throws(OptionValueError) in options.settings.isProduction = try boolean(value) },
    Option(
      .security, "gossip-key", .value("SECRET"),
      "the key of the gossip: ssm:NAME, secretsmanager:ID[#key] or file:/PATH"
    ) {
      value, options throws(OptionValueError) in options.settings.gossipKey = try secretReference(value)
    },
    Option(.security, "gossip-key-create", .value("ssm:NAME"), "the same; whichever server comes first makes it, once")
    {
      value, options throws(OptionValueError) in
      guard case .ssm(let name) = try secretReference(value) else {
        throw OptionValueError(expectation: "must be ssm:NAME: only parameters are made")
      }
      options.createdGossipKey = .ssm(name: name)
    },
    Option(.security, "acl-default-policy", .value("allow|deny"), "switch ACLs on, with this default policy") {
      value, options throws(OptionValueError) in
      guard ["allow", "deny"].contains(value) else { throw OptionValueError(expectation: "must be allow or deny") }
      options.settings.aclDefaultPolicy = value
    },
    Option(.security, "agent-token", .value("SECRET"), "the agent's own ACL token; said as for --gossip-key") {
      value, options throws(OptionValueError) in options.settings.agentToken = try secretReference(value)
    },
    Option(
      .security, "tls-ca", .value("SECRET"),
      "the CA certificate in PEM; said as for --gossip-key; a file is used where it is"
    ) {
      value, options throws(OptionValueError) in options.settings.tls.ca = try secretReference(value)
    },
    Option(.security, "tls-cert", .value("SECRET"), "this agent's certificate") {
      value, options throws(OptionValueError) in
      options.settings.tls.cert = try secretReference(value)
    },
    Option(.security, "tls-key", .value("SECRET"), "its private key") { value, options throws(OptionValueError) in
      options.settings.tls.key = try secretReference(value)
    },
    Option(
      .security, "verify-incoming", .value("true|false"), default: "true with --tls-cert",
      "demand certificates of who connects"
    ) {
      value, options throws(OptionValueError) in options.settings.tls.verifyIncoming = try boolean(value)
    },
    Option(.security, "verify-outgoing", .value("true|false"), default: "true with --tls-ca", "connect by TLS only") {
      value, options throws(OptionValueError) in options.settings.tls.verifyOutgoing = try boolean(value)
    },
    Option(
      .security, "verify-server-hostname", .value("true|false"), default: "true with --production",
      "servers' certificates must name server.DATACENTER.consul"
    ) { value, options throws(OptionValueError) in options.settings.tls.verifyServerHostname = try boolean(value) },
    Option(
      .security, "tls-auto-encrypt", .flag, default: "false",
      "clients get their certificates from the servers (Consul 1.5.2 and newer)"
    ) {
      value, options throws(OptionValueError) in options.settings.tls.autoEncrypt = try boolean(value)
    },
  ]
}
