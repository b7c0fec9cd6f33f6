internal import AWS
package import Base
internal import Consul
internal import Artifacts
internal import Decisions
package import Model
package import Observers
package import LogForwarding
internal import Synchronization

/// The log side of the sidecar: forwards the logs, or monitors the agent that does, and reports the state.
package final class LogForwardingService: Sendable {
  private let settings: Settings
  private let context: RuntimeContext
  private let instance: LocatedInstance
  /// The agent's output, if it is a child of this process.
  private let spool: Spool?
  private let forwarder = Mutex<LogForwarder?>(nil)
  private let prometheus = Mutex("")

  package init(settings: Settings, context: RuntimeContext, instance: LocatedInstance, spool: Spool?) {
    self.settings = settings
    self.context = context
    self.instance = instance
    self.spool = spool
  }

  /// Maximum age of what `status` shows.
  private static let reportPause = Duration.seconds(2)
  private static let flushPause = Duration.milliseconds(20)
  /// Between calls for the group's name.
  private static let groupPause = Duration.seconds(10)

  /// Until cancelled.
  package func run() async {
    guard !settings.logs.isEmpty else { return }
    let served = serve()
    defer { withExtendedLifetime(served) {} }
    guard let values = await templateValues() else { return }
    let agent = LogAgentConfiguration(
      settings, instance.identity, hostName: context.system.hostName, groupName: values["group"],
      syslogFile: SyslogFile.path(context.files))
    if settings.logAgent != nil, agent == nil {
      context.log.warning(
        "logs are not forwarded: this machine's syslog is not a file",
        ["hint": "install rsyslog, or omit --log-agent"])
      return
    }
    await withTaskGroup(of: Void.self) { group in
      if let agent {
        let monitor = LogAgentMonitor(
          agent, patience: settings.logAgentPatience, logs: CloudWatchLogs(client: instance.client), context: context)
        group.addTask { await monitor.run() }
        group.addTask {
          await self.report {
            ForwardingReport(time: self.context.now(), pid: self.context.system.pid, streams: [], agent: monitor.report)
          }
        }
      } else {
        let forwarder = LogForwarder(
          settings.logs.map { request(for: $0, values) }, memory: settings.logMemory,
          flushInterval: settings.flushInterval,
          client: instance.client, files: context.files,
          launcher: context.launcher,
          stateDirectory: settings.stateDirectory, clock: context.clock, uptime: context.uptime, now: context.now,
          log: context.log)
        self.forwarder.withLock { $0 = forwarder }
        group.addTask { await forwarder.run() }
        group.addTask {
          await self.report {
            ForwardingReport(
              time: self.context.now(), pid: self.context.system.pid, streams: await forwarder.status(), agent: nil)
          }
        }
      }
    }
  }

  /// Before the cancellation of `run`: sends the logs that are written by now, for no longer than `--flush-timeout`, or
  /// than `time` if that is less.
  package func flush(within time: Duration = .seconds(24 * 3600)) async {
    guard !settings.logs.isEmpty, settings.logAgent == nil else { return }
    let end = context.uptime() + min(time, settings.flushTimeout)
    do {
      try await waitForForwarder(until: end)
    } catch {
      // Logs are also sent if the caller is cancelled: the deadline bounds the wait.
      let rest = Task { try await self.waitForForwarder(until: end) }
      _ = await rest.result
    }
    await forwarder.withLock { $0 }?.end(within: max(.zero, end - context.uptime()))
  }

  /// A short run may end before the names are known.
  private func waitForForwarder(until end: Duration) async throws {
    while forwarder.withLock({ $0 }) == nil, context.uptime() < end {
      try await context.clock.sleep(for: Self.flushPause)
    }
  }

  // MARK: What is forwarded

  /// Values of the fields of names; nil if cancelled before they are known.
  private func templateValues() async -> [String: String]? {
    let identity = instance.identity
    var values = settings.logValues(identity, hostName: context.system.hostName)
    values["source"] = "{source}"
    guard settings.logNamesNeedGroup else { return values }
    // Without the group's name the logs would go to another stream.
    var reported = ReportedReason()
    while !Task.isCancelled {
      do {
        values["group"] =
          try await AutoScaling(client: instance.client).groupName(ofInstance: identity.instanceID)
          ?? Settings.groupNameOutsideGroups
        return values
      } catch {
        if Task.isCancelled { return nil }
        if reported.isNew(error.stableReason) {
          let purpose = "find this instance's group for the log's name"
          context.log.warning(
            "logs are not forwarded yet",
            ["reason": .string((error as? AWSError)?.explanation(purpose) ?? error.explained)])
        }
      }
      try? await context.clock.sleep(for: Self.groupPause)
    }
    return nil
  }

  private func request(for log: Settings.LogRequest, _ values: [String: String]) -> LogForwarder.Request {
    let expanded = { (text: String) in NameTemplate.expand(text) { values[$0] } ?? text }
    var request = LogForwarder.Request(
      name: log.source.description, input: input(for: log.source), group: expanded(log.group ?? settings.logGroup),
      stream: expanded(log.stream ?? settings.logStream)
    )
    request.retention = log.retention ?? settings.logRetention
    request.tags = settings.tagsOfLogGroups
    request.timestampKey = log.timestampKey
    request.recordStart = (log.multilineStart ?? settings.multilineStart).flatMap { context.pattern($0) }
    return request
  }

  private func input(for source: LogSource) -> LogInput {
    switch source {
    case .consul:
      if let spool { return .spool(spool) }
      return settings.start == .docker
        ? .container(name: DockerContainer.agentName, docker: instance.consulPath) : .journal(unit: SystemdUnit.name)
    case .bootstrap: return .file(FilePattern(file: Settings.ownLogPath))
    case .syslog:
      return SyslogFile.path(context.files).map { .file(FilePattern(file: $0)) } ?? .journal(unit: nil)
    case .journal(let unit): return .journal(unit: unit)
    case .file(let pattern): return .file(pattern)
    }
  }

  // MARK: The report

  private func serve() -> (any Sendable)? {
    guard let address = settings.metricsAddress else { return nil }
    do {
      return try context.textServer.serve(at: address) { self.prometheus.withLock { $0 } }
    } catch {
      context.log.warning(
        "cannot serve the metrics of the log forwarding",
        ["reason": .string(error.explained)])
      return nil
    }
  }

  /// Writes the report when it has changed, and at least at the renewal interval. Logs each problem once, and its end.
  private func report(_ current: @Sendable () async -> ForwardingReport) async {
    var last: ForwardingReport?, known: Set<String> = []
    var writtenAt = Duration.zero, error: String?
    while true {
      let report = await current()
      if settings.metricsAddress != nil { prometheus.withLock { $0 = report.prometheus } }
      let uptime = context.uptime()
      if last.map({
        $0.streams != report.streams || $0.agent != report.agent || uptime - writtenAt >= ForwardingReport.renewal
      }) ?? true {
        let previousError = error
        error = write(report)
        if let error, error != previousError {
          context.log.warning("cannot write the report of the log forwarding", ["reason": .string(error)])
        }
        last = report
        writtenAt = uptime
      }
      let problems = Set(report.problems(at: report.time).map(\.message))
      for problem in problems.subtracting(known).sorted() { context.log.warning("log forwarding: \(problem)") }
      for problem in known.subtracting(problems).sorted() {
        context.log.info("log forwarding: resolved: \(problem)")
      }
      known = problems
      // The last report is written after the end.
      if Task.isCancelled { return }
      try? await context.clock.sleep(for: Self.reportPause)
    }
  }

  /// - Returns: why it could not be written.
  private func write(_ report: ForwardingReport) -> String? {
    do {
      try context.files.write(settings.logReportPath, Array(report.json.prettyText.utf8), mode: 0o644, owner: nil)
      return nil
    } catch {
      return error.explained
    }
  }
}
