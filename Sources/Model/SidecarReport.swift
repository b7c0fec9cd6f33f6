package import Base

/// Sign of life of the sidecar: it writes this to the state directory regularly, for `status` and `doctor`.
package struct SidecarReport: Sendable, Equatable {
  /// What it knows of an agent that it supervises.
  package struct Agent: Sendable, Equatable {
    /// Nil between a crash and the next start.
    package var pid: Int32?
    /// Crashes in a row, each within a minute of its start.
    package var crashes: Int64
    package var lastCrash: String

    package init(pid: Int32?, crashes: Int64, lastCrash: String) {
      self.pid = pid
      self.crashes = crashes
      self.lastCrash = lastCrash
    }
  }

  package let time: Timestamp
  /// By the monotonic clock, which all processes of a boot share: neither a clock that is set nor a machine that slept
  /// makes a report look old.
  package let uptime: Duration
  /// Of the kernel; empty if it cannot be read.
  package let bootID: String
  package let pid: Int32
  /// Between two reports.
  package let interval: Duration
  /// What the sidecar retries, a line each.
  package let problems: [String]
  package let notices: [InstanceNotice]
  /// Nil where the agent is not its child.
  package let agent: Agent?

  package init(
    time: Timestamp, uptime: Duration, bootID: String, pid: Int32, interval: Duration, problems: [String],
    notices: [InstanceNotice] = [], agent: Agent?
  ) {
    self.time = time
    self.uptime = uptime
    self.bootID = bootID
    self.pid = pid
    self.interval = interval
    self.problems = problems
    self.notices = notices
    self.agent = agent
  }

  /// Longest time between two reports, whatever the interval of the polls.
  package static let longestInterval = Duration.seconds(30)
  /// Of the file: problems are some hundred bytes each.
  package static let sizeLimit = 1 << 20
  package static let bootIDPath = "/proc/sys/kernel/random/boot_id"

  /// How long the sidecar has not reported. A report of another boot is as old as this boot.
  package func age(uptime now: Duration, bootID current: String) -> Duration {
    max(.zero, bootID == current ? now - uptime : now)
  }

  /// Three intervals: one report may be late, two are not.
  package var freshness: Duration { interval * 3 }
}

extension RuntimeContext {
  /// The kernel's ID of this boot; empty if it cannot be read: then reports are compared by uptime alone.
  package var bootID: String {
    do {
      let bytes = try files.readIfPresent(SidecarReport.bootIDPath, limit: 4096) ?? []
      return String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self)
    } catch {
      return ""
    }
  }
}

// MARK: As JSON

extension SidecarReport {
  package var json: JSONValue {
    .object([
      "time": .string(time.iso8601), "uptime_milliseconds": .integer(uptime.wholeMilliseconds),
      "boot_id": .string(bootID), "pid": .integer(Int64(pid)),
      "interval_seconds": .integer(interval.components.seconds), "problems": .strings(problems),
      "notices": .array(notices.map(\.json)),
      "agent": agent.map { agent in
        .object([
          "pid": agent.pid.map { .integer(Int64($0)) } ?? .null, "crashes": .integer(agent.crashes),
          "last_crash": .string(agent.lastCrash),
        ])
      } ?? .null,
    ])
  }

  /// Nil if the value is not a report.
  package init?(json: JSONValue) {
    guard let time = json["time"]?.string.flatMap({ Timestamp(iso8601: $0) }),
      let uptime = json["uptime_milliseconds"]?.integer, uptime >= 0, let bootID = json["boot_id"]?.string,
      let pid = json["pid"]?.integer.flatMap({ Int32(exactly: $0) }),
      let seconds = json["interval_seconds"]?.integer,
      (1...Self.longestInterval.components.seconds).contains(seconds), let problems = json["problems"]?.array
    else { return nil }
    self.time = time
    self.uptime = .milliseconds(uptime)
    self.bootID = bootID
    self.pid = pid
    interval = .seconds(seconds)
    self.problems = problems.compactMap(\.string)
    // An earlier release writes none.
    let notices = json["notices"]?.array ?? []
    self.notices = notices.compactMap { InstanceNotice(json: $0) }
    switch json["agent"] {
    case nil, .null: agent = nil
    case let json?:
      guard let crashes = json["crashes"]?.integer, let lastCrash = json["last_crash"]?.string else { return nil }
      agent = Agent(
        pid: json["pid"]?.integer.flatMap { Int32(exactly: $0) }, crashes: crashes, lastCrash: lastCrash)
    }
    guard self.problems.count == problems.count, self.notices.count == notices.count else { return nil }
  }
}
