internal import Base
internal import Model

extension Option {
  static let clusterOptions: [Option] = [
    Option(
      .cluster, "join", .value("all|leader"), default: .value("all"),
      "which servers retry_join lists: all others, or the one with the lowest IP address"
    ) { value, options throws(OptionValueError) in
      options.settings.join = try choice(value)
    },
    Option(
      .cluster, "leader-wait", .value("DURATION"), default: .value("40s"),
      "maximum time to wait for an election if peers have raft state but no leader; "
        + "after that the cluster counts as having lost its quorum"
    ) { value, options throws(OptionValueError) in
      options.settings.leaderWait = try duration(value)
    },
    Option(
      .cluster, "cluster-record", .value("ssm:PATH"), example: "ssm:/c",
      "record of the cluster in Parameter Store: a cluster that it names is never formed a second time silently, even "
        + "after all its servers are lost"
    ) { value, options throws(OptionValueError) in
      options.settings.clusterRecord = try parameterPath(value)
    },
    Option(
      .cluster, "on-total-loss", .value("refuse|new"), default: .value("refuse"),
      "once every server that the record names is terminated: stop, or form a new and empty cluster"
    ) { value, options throws(OptionValueError) in
      options.settings.onTotalLoss = try choice(value)
    },
    Option(
      .cluster, "recover", .value("manual|auto"), default: .value("manual"),
      "once most servers are lost for good: wait for the command recover, or recover the cluster from the longest log"
    ) { value, options throws(OptionValueError) in
      options.settings.recovery = try choice(value)
    },
    Option(
      .cluster, "verify-timeout", .value("DURATION"), default: .value("5m"),
      "maximum time to wait until the agent is healthy"
    ) { value, options throws(OptionValueError) in
      options.settings.verifyTimeout = try duration(value)
    },
    Option(
      .cluster, "require-wan", .flag, default: .value("false"),
      "fail unless every known server of all datacenters is in the WAN pool"
    ) { value, options throws(OptionValueError) in
      options.settings.requiresWAN = try boolean(value)
    },
    Option(
      .cluster, "sidecar-interval", .value("DURATION"), default: .value("30s"),
      "average interval at which the sidecar polls the agent, at least 1s; every tenth poll also calls AWS"
    ) { value, options throws(OptionValueError) in
      options.settings.sidecarInterval = try duration(value, from: .seconds(1))
    },
    Option(
      .cluster, "reap", .value("true|false"), default: .value("true"),
      "the leader's sidecar removes failed members whose instances EC2 proves terminated; on servers"
    ) { value, options throws(OptionValueError) in
      options.settings.reapsDeadMembers = try boolean(value)
    },
    Option(
      .cluster, "lifecycle-hook", .value("NAME"),
      "launch hook to complete: CONTINUE once healthy, ABANDON after a failure"
    ) { value, options throws(OptionValueError) in
      options.settings.lifecycleHook = try nonEmpty(value)
    },
    Option(
      .cluster, "termination-hook", .value("NAME"),
      "termination hook to hold until this machine has left its cluster, and to complete then"
    ) { value, options throws(OptionValueError) in
      options.settings.terminationHook = try nonEmpty(value)
    },
    Option(
      .cluster, "leave-wait", .value("DURATION"), default: .value("5m"),
      "how long a server that its group terminates waits for a replacement; then it leaves as soon as a quorum stays"
    ) { value, options throws(OptionValueError) in
      options.settings.leaveWait = try duration(value)
    },
    Option(
      .cluster, "drain", .value("DURATION"), default: .value("0s"),
      "for clients: time between the end of their services in DNS and their departure"
    ) { value, options throws(OptionValueError) in
      options.settings.drain = try duration(value, from: .zero)
    },
  ]
}
