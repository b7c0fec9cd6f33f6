internal import Base
internal import Model

extension Option {
  static let securityOptions: [Option] = [
    Option(
      .security, "production", .flag, default: .value("false"),
      "require what HashiCorp's production guide requires: gossip encryption, TLS and ACLs; sets default policy "
        + "deny, verify_incoming, verify_outgoing and verify_server_hostname true, raft_multiplier 1"
    ) { value, options throws(OptionValueError) in
      options.settings.isProduction = try boolean(value)
    },
    Option(
      .security, "gossip-key", .value("SECRET"),
      "gossip encryption key: ssm:NAME, secretsmanager:ID[#key] or file:/PATH"
    ) { value, options throws(OptionValueError) in
      options.settings.gossipKey = try secretReference(value)
    },
    Option(
      .security, "gossip-key-create", .value("ssm:NAME"), example: "ssm:k",
      "gossip key in Parameter Store; the first server creates it if it does not exist"
    ) { value, options throws(OptionValueError) in
      guard case .ssm(let name) = try secretReference(value) else {
        throw OptionValueError(expectation: "must be ssm:NAME; only parameters can be created")
      }
      options.createdGossipKey = .ssm(name: name)
    },
    Option(
      .security, "acl-default-policy", .value("allow|deny"), example: "deny",
      "enable ACLs with this default policy"
    ) { value, options throws(OptionValueError) in
      guard ["allow", "deny"].contains(value) else { throw OptionValueError(expectation: "must be allow or deny") }
      options.settings.aclDefaultPolicy = value
    },
    Option(
      .security, "agent-token", .value("SECRET"),
      "ACL token of the agent; takes the same values as --gossip-key"
    ) { value, options throws(OptionValueError) in
      options.settings.agentToken = try secretReference(value)
    },
    Option(
      .security, "tls-ca", .value("SECRET"),
      "CA certificate in PEM; takes the same values as --gossip-key; a file:/PATH is not copied"
    ) { value, options throws(OptionValueError) in
      options.settings.tls.ca = try secretReference(value)
    },
    Option(
      .security, "tls-cert", .value("SECRET"),
      "certificate of this agent"
    ) { value, options throws(OptionValueError) in
      options.settings.tls.cert = try secretReference(value)
    },
    Option(
      .security, "tls-key", .value("SECRET"),
      "private key of that certificate"
    ) { value, options throws(OptionValueError) in
      options.settings.tls.key = try secretReference(value)
    },
    Option(
      .security, "verify-incoming", .value("true|false"), default: .described("true with --tls-cert"), example: "false",
      "require certificates on incoming connections"
    ) { value, options throws(OptionValueError) in
      options.settings.tls.verifyIncoming = try boolean(value)
    },
    Option(
      .security, "verify-outgoing", .value("true|false"), default: .described("true with --tls-ca"), example: "true",
      "use TLS for outgoing connections"
    ) { value, options throws(OptionValueError) in
      options.settings.tls.verifyOutgoing = try boolean(value)
    },
    Option(
      .security, "verify-server-hostname", .value("true|false"), default: .described("true with --production"),
      example: "true",
      "require server certificates for server.DATACENTER.consul"
    ) { value, options throws(OptionValueError) in
      options.settings.tls.verifyServerHostname = try boolean(value)
    },
    Option(
      .security, "tls-auto-encrypt", .flag, default: .value("false"),
      "let clients get their certificates from the servers (Consul 1.5.2 or newer)"
    ) { value, options throws(OptionValueError) in
      options.settings.tls.autoEncrypt = try boolean(value)
    },
  ]
}
