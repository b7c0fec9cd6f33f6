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

  /// Whom `retry_join` names.
  package enum Join: String, Sendable, CaseIterable {
    /// Every counted server but this one.
    case all
    /// The numerically lowest address.
    case leader
  }

  /// How the agent is started.
  package enum Start: String, Sendable, CaseIterable {
    case systemd, supervise, none
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

  package var membership = Membership.ownGroup
  /// Nil: the group's desired capacity.
  package var expect: Int?
  package var join = Join.all
  package var waitTimeout = Duration.seconds(600)
  /// How long peers with raft state may be without a leader before that is an outage. A first election takes 1 to 3
  /// seconds tuned and up to 35 with Consul's defaults, one after a leader's death up to 15 (measured, five servers).
  package var leaderWait = Duration.seconds(40)
  package var verifyTimeout = Duration.seconds(300)

  package var datacenter = "dc1"
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
  package var leaveOnTerminate = true
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

  package init() {}

  /// Of every server's HTTP API: the servers of a group are configured alike.
  package var httpPort: Int64 { overlays.reduce(8500) { port, overlay in overlay.value["ports"]?["http"]?.integer ?? port } }

  package var configurationPath: String { configDirectory + "/00-consul-bootstrap.json" }
}

/// A name with fields in braces: `consul-{instance_suffix}`.
package struct NameTemplate: Sendable, Equatable {
  package let text: String

  /// The fields, with what each becomes, for help.
  package static let fields = [
    "instance_id": "i-0123456789abcdef0", "instance_suffix": "the instance id without i-", "az": "eu-west-1a",
    "region": "eu-west-1", "private_ip": "10-0-1-17",
  ]

  /// Nil if the text has an unknown field or an unclosed brace.
  package init?(_ text: String) {
    self.text = text
    guard Self.expand(text, { Self.fields[$0] }) != nil else { return nil }
  }

  package func expanded(for identity: Identity) -> String {
    let values = [
      "instance_id": identity.instanceID,
      "instance_suffix": String(identity.instanceID.split(separator: "-", maxSplits: 1).last ?? ""),
      "az": identity.availabilityZone, "region": identity.region,
      "private_ip": identity.privateIP.description.replacing(".", with: "-"),
    ]
    return Self.expand(text) { values[$0] } ?? text
  }

  private static func expand(_ text: String, _ value: (String) -> String?) -> String? {
    var result = ""
    var rest = Substring(text)
    while let open = rest.firstIndex(of: "{") {
      guard let close = rest[open...].firstIndex(of: "}"), let expansion = value(String(rest[rest.index(after: open)..<close]))
      else { return nil }
      result += rest[..<open] + expansion
      rest = rest[rest.index(after: close)...]
    }
    return rest.contains("}") ? nil : result + rest
  }

  /// RFC 1123: labels of letters, digits and hyphens, 1 to 63 long, not with a hyphen at either end; 253 in all.
  package static func isHostName(_ name: String) -> Bool {
    name.utf8.count <= 253
      && name.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
        (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
          && label.utf8.allSatisfy { byte in
            (97...122).contains(byte) || (65...90).contains(byte) || (48...57).contains(byte) || byte == 45
          }
      }
  }
}
