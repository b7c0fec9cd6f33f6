package import AWS
internal import Base
package import Model

/// An action that the role must allow, and when: a row of the table in the documents, and of a policy.
package struct IAMPermission: Sendable {
  package let action: AWSAction
  /// When a run needs it, by options (Markdown).
  package let when: String
  /// Of the statement that allows it. Permissions of one statement name the same resources.
  let sid: String
  /// The names of the resources that it is needed for, as the settings have them, `*` for any; none where the run does
  /// not need it.
  let names: @Sendable (Settings) -> [String]

  private init(
    _ sid: String, _ action: AWSAction, when: String, names: @escaping @Sendable (Settings) -> [String]
  ) {
    self.sid = sid
    self.action = action
    self.when = when
    self.names = names
  }

  /// The actions that a run with these settings needs, its sidecar included, in the order of a policy.
  package static func actions(for settings: Settings) -> [AWSAction] {
    all.filter { !$0.names(settings).isEmpty }.map(\.action)
  }

  /// Every action of `AWS`, in the order of a policy.
  package static let all: [IAMPermission] = [
    IAMPermission("DiscoverServers", .describeInstances, when: "always") { _ in ["*"] },
    IAMPermission(
      "DiscoverServers", .describeAutoScalingGroups,
      when: "unless `--tag` finds the servers; with `--termination-hook` on servers"
    ) {
      guard case .tags = $0.membership else { return ["*"] }
      return $0.terminationHook != nil && $0.role == .server ? ["*"] : []
    },
    IAMPermission(
      "DiscoverServers", .describeAutoScalingInstances,
      when:
        "without `--group` and `--tag`; with `--lifecycle-hook` or `--termination-hook`; with `{group}` in the name of "
        + "a log group or stream"
    ) {
      $0.membership == .ownGroup || $0.hasHook || $0.logNamesNeedGroup ? ["*"] : []
    },
    IAMPermission(
      "DiscoverServers", .describeLifecycleHooks,
      when: "with `--termination-hook`; with `--lifecycle-hook`, for a boot that takes long"
    ) { $0.hasHook ? ["*"] : [] },
    IAMPermission(
      "CompleteLifecycleHook", .completeLifecycleAction, when: "with `--lifecycle-hook` or `--termination-hook`"
    ) { $0.hasHook ? $0.ownGroups : [] },
    IAMPermission(
      "CompleteLifecycleHook", .recordLifecycleActionHeartbeat,
      when: "with `--termination-hook`; with `--lifecycle-hook`, for a boot that takes long"
    ) { $0.hasHook ? $0.ownGroups : [] },
    IAMPermission("ReadParameters", .getParameter, when: "with a secret at `ssm:`; with `--cluster-record`") {
      settings in
      settings.secretReferences.compactMap { if case .ssm(let name) = $0 { name } else { nil } }
        + settings.clusterRecordPattern
    },
    IAMPermission("CreateParameters", .putParameter, when: "with `--gossip-key-create`; with `--cluster-record`") {
      settings in
      var names: [String] = []
      if settings.createsGossipKey, case .ssm(let name)? = settings.gossipKey { names.append(name) }
      return names + settings.clusterRecordPattern
    },
    IAMPermission("ListClusterRecord", .getParametersByPath, when: "with `--cluster-record`") {
      $0.clusterRecordPattern
    },
    IAMPermission("ReadSecrets", .getSecretValue, when: "with a secret at `secretsmanager:`") { settings in
      settings.secretReferences.compactMap { if case .secretsManager(let id, _) = $0 { id } else { nil } }
    },
    // An external log agent creates what it needs, too.
    IAMPermission("ForwardLogs", .createLogGroup, when: "with `--log`") { $0.logGroupPatterns },
    IAMPermission("ForwardLogs", .createLogStream, when: "with `--log`") { $0.logGroupPatterns },
    IAMPermission("ForwardLogs", .putLogEvents, when: "with `--log`") { $0.logGroupPatterns },
    IAMPermission("ForwardLogs", .putRetentionPolicy, when: "with `--log` and `--log-retention`") {
      $0.logRetention != nil || $0.logs.contains { $0.retention != nil } ? $0.logGroupPatterns : []
    },
    IAMPermission("ForwardLogs", .tagResource, when: "with `--log` and `--log-tag`") {
      $0.logTags.isEmpty ? [] : $0.logGroupPatterns
    },
    IAMPermission("ForwardLogs", .describeLogStreams, when: "with `--log` and `--log-agent`") {
      $0.logAgent == nil ? [] : $0.logGroupPatterns
    },
  ]
}

extension Settings {
  fileprivate var hasHook: Bool { lifecycleHook != nil || terminationHook != nil }

  /// The names that this instance's Auto Scaling group may have: a server is in one of those that its options name, a
  /// client in another.
  fileprivate var ownGroups: [String] {
    if role == .server, case .groups(let groups) = membership { groups } else { ["*"] }
  }

  /// The parameters of the cluster record, in every zone.
  fileprivate var clusterRecordPattern: [String] { clusterRecord.map { ["\($0)/*"] } ?? [] }

  /// The names of the log groups; `*` for the parts that differ between instances.
  fileprivate var logGroupPatterns: [String] {
    logs.map { log in
      NameTemplate.expand(log.group ?? logGroup) { field in
        switch field {
        case "datacenter" where layout == .single: datacenter
        // Each file that matches a pattern has its own.
        case "source" where !log.source.isPattern: log.source.nameInStream
        default: "*"
        }
      } ?? "*"
    }
  }
}
