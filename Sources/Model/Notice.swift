package import Base

/// Why this machine, or its agent, is to stop.
package struct Notice: Sendable, Equatable {
  package enum Source: String, Sendable {
    /// Its Auto Scaling group terminates it.
    case termination
    /// EC2 takes the spot instance back.
    case spot
    /// The service manager stops the agent.
    case stopping
    /// A person has asked for it.
    case manual

    /// Not only the agent.
    var endsInstance: Bool { self == .termination || self == .spot }
  }

  package let source: Source
  /// By uptime: what has not left by then stays. Nil: there is no end.
  package let deadline: Duration?
  /// So long, by uptime, it waits until the others could lose one more server; then it is enough that they keep their
  /// quorum.
  package let patientUntil: Duration
  /// By uptime: when it came; nil where that does not matter.
  package let since: Duration?

  package init(_ source: Source, since: Duration? = nil, deadline: Duration?, patientUntil: Duration = .zero) {
    self.source = source
    self.since = since
    self.deadline = deadline
    self.patientUntil = patientUntil
  }
}

/// What `status` shows of a departure, and the next process needs of it: the process that carries it out writes this to
/// the state directory.
package struct DepartureReport: Sendable, Equatable {
  package enum Phase: String, Sendable {
    case waiting, leaving, left, kept
  }

  package let source: Notice.Source
  package let phase: Phase
  /// What it waits for, or why it ended so.
  package let reason: String
  package let time: Timestamp
  package let uptime: Duration
  package let bootID: String
  /// The other servers of the raft configuration. Once the agent has ended, only they know whether this one is removed,
  /// and its configuration may list others that have all been replaced.
  package let others: [IPv4Address]
  /// When its notice came, by uptime: the hook of a termination has run since, whatever was killed.
  package let since: Duration?
  /// When a person released this server by `leave --force`, by uptime; nil without that.
  package let releasedAt: Duration?

  package init(
    source: Notice.Source, phase: Phase, reason: String, time: Timestamp, uptime: Duration, bootID: String,
    others: [IPv4Address] = [], since: Duration? = nil, releasedAt: Duration? = nil
  ) {
    self.source = source
    self.phase = phase
    self.reason = reason
    self.time = time
    self.uptime = uptime
    self.bootID = bootID
    self.others = others
    self.since = since
    self.releasedAt = releasedAt
  }

  package static let sizeLimit = 64 << 10
  /// More than a datacenter has servers.
  private static let mostOthers = 64
  /// Between two reports of the same state.
  package static let interval = Duration.seconds(10)

  package var json: JSONValue {
    [
      "source": .string(source.rawValue), "phase": .string(phase.rawValue), "reason": .string(reason),
      "time": .string(time.iso8601), "uptime_milliseconds": .integer(uptime.wholeMilliseconds),
      "boot_id": .string(bootID), "others": .strings(others.map(\.description)),
      "since_milliseconds": since.map { .integer($0.wholeMilliseconds) } ?? .null,
      "released_milliseconds": releasedAt.map { .integer($0.wholeMilliseconds) } ?? .null,
    ]
  }

  /// Nil if the value is none.
  package init?(json: JSONValue) {
    guard let source = json["source"]?.string.flatMap(Notice.Source.init),
      let phase = json["phase"]?.string.flatMap(Phase.init), let reason = json["reason"]?.string,
      let time = json["time"]?.string.flatMap({ Timestamp(iso8601: $0) }),
      let uptime = json["uptime_milliseconds"]?.integer, let bootID = json["boot_id"]?.string
    else { return nil }
    let others = (json["others"]?.array ?? []).prefix(Self.mostOthers).compactMap { value in
      value.string.flatMap { IPv4Address($0) }
    }
    self.init(
      source: source, phase: phase, reason: reason, time: time, uptime: .milliseconds(uptime), bootID: bootID,
      others: others, since: json["since_milliseconds"]?.integer.map { .milliseconds($0) },
      releasedAt: json["released_milliseconds"]?.integer.map { .milliseconds($0) })
  }

  /// Whether it tells of now: of this boot, and while it goes on, written in the last three intervals.
  package func isCurrent(uptime now: Duration, bootID current: String) -> Bool {
    guard bootID == current else { return false }
    return isOver || now - uptime <= Self.interval * 3
  }

  private var isOver: Bool { phase == .left || phase == .kept }

  /// An agent that has left ends within 14 s (measured with 1.8.7).
  private static let endOfAgent = Duration.seconds(30)

  /// Whether an agent that answers has started since: after the stop that this tells of, or because a person has
  /// gone on with it. An instance that is to be terminated stays so.
  package func isPast(uptime now: Duration) -> Bool {
    isOver && now - uptime > Self.endOfAgent && !(phase == .kept && source.endsInstance)
  }

  /// The machine is about to end as a member. A stop or a person's call that could not leave is over with its answer.
  package var isProblem: Bool { phase == .kept && source.endsInstance }
}
