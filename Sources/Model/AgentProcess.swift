package import Base

/// The agent's process as its service manager shows it.
package struct AgentProcess: Sendable, Equatable {
  package enum Runner: Sendable, Equatable {
    case systemd
    case docker
    case supervisor
    /// `--start none`, or what cannot be asked: another program runs the agent.
    case other
  }

  package enum State: Sendable, Equatable {
    case running(pid: Int32)
    /// Something has suspended it: SIGSTOP, a debugger, `docker pause`.
    case suspended(pid: Int32)
    /// It ends again and again, each time with a restart.
    case crashing(reason: String)
    /// It ended and is not restarted.
    case ended(reason: String)
    case unknown(reason: String?)
  }

  package let runner: Runner
  package let state: State

  package init(_ runner: Runner, _ state: State) {
    self.runner = runner
    self.state = state
  }

  package static let unknown = AgentProcess(.other, .unknown(reason: nil))

  /// What is wrong with the process; nil if nothing is known to be.
  package var problem: String? {
    switch state {
    case .running, .unknown: nil
    case .suspended(let pid): runner == .docker ? "its container is paused" : "process \(pid) is stopped by a signal"
    case .crashing(let reason), .ended(let reason): reason
    }
  }

  /// How to fix it; nil if nothing is known to be wrong.
  package var hint: String? {
    switch state {
    case .running, .unknown: nil
    case .suspended(let pid): runner == .docker ? "docker unpause \(DockerContainer.agentName)" : "kill -CONT \(pid)"
    case .crashing: "fix what the agent's log reports: \(runner.log)"
    case .ended:
      switch runner {
      case .systemd: "fix what \(runner.log) reports, then systemctl start \(SystemdUnit.name)"
      case .docker: "fix what \(runner.log) reports, then docker start \(DockerContainer.agentName)"
      case .supervisor, .other: "run consul-bootstrap again"
      }
    }
  }
}

extension AgentProcess.Runner {
  /// Where the agent's log is.
  package var log: String {
    switch self {
    case .systemd: "journalctl -u \(SystemdUnit.name)"
    case .docker: "docker logs \(DockerContainer.agentName)"
    case .supervisor, .other: "the output of consul-bootstrap"
    }
  }

  package var restartHint: String {
    switch self {
    case .systemd: "check \(log), then systemctl restart \(SystemdUnit.name)"
    case .docker: "check \(log), then docker restart \(DockerContainer.agentName)"
    case .supervisor, .other:
      "find its process with ps -C consul -o pid,stat,wchan: kill -CONT one in state T, kill -KILL one in another"
    }
  }
}

// MARK: As the service managers show it

extension AgentProcess {
  /// A process that has run for this long since its last restart is not in a crash loop.
  package static let stableAfter = Duration.seconds(60)
  /// Fewer restarts are a crash, not a loop of crashes.
  private static let restartLimit: Int64 = 3

  package static let unitProperties =
    "ActiveState,SubState,LoadState,Result,NRestarts,MainPID,ExecMainStartTimestampMonotonic"

  /// - Parameters:
  ///   - unit: the output of `systemctl show` of these properties.
  ///   - uptime: by the monotonic clock, as systemd's own time stamps.
  /// - Returns: nil for a unit that does not exist: then it does not run the agent.
  package init?(unit: [String: String], uptime: Duration) {
    guard let loaded = unit["LoadState"], loaded != "not-found" else { return nil }
    let name = SystemdUnit.name, result = unit["Result"] ?? "unknown"
    let restarts = unit["NRestarts"].flatMap { Int64($0) } ?? 0
    let looping = "\(name) crashes, systemd has restarted it \(restarts) times (result: \(result))"
    runner = .systemd
    switch (unit["ActiveState"], unit["SubState"]) {
    case ("failed", _): state = .ended(reason: "\(name) has failed (result: \(result))")
    case ("activating", "auto-restart"), ("activating", "auto-restart-queued"): state = .crashing(reason: looping)
    case ("active", _), ("activating", _), ("reloading", _):
      let started = unit["ExecMainStartTimestampMonotonic"].flatMap { Int64($0) } ?? 0
      if restarts >= Self.restartLimit, uptime - .microseconds(started) < Self.stableAfter {
        state = .crashing(reason: looping)
      } else if let pid = unit["MainPID"].flatMap({ Int32($0) }), pid > 0 {
        state = .running(pid: pid)
      } else {
        state = .unknown(reason: nil)
      }
    case ("inactive", _), ("deactivating", _):
      let masked = loaded == "masked" ? " and masked" : ""
      state = .ended(reason: "\(name) is \(unit["ActiveState"] ?? "inactive")\(masked)")
    default: state = .unknown(reason: "systemctl reports no state of \(name)")
    }
  }

  package static let containerFormat =
    "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}} {{.State.Pid}} {{.State.StartedAt}}"

  /// - Parameters:
  ///   - container: the output of `docker container inspect` with this format.
  ///   - now: Docker's time stamps are the wall clock's.
  package init(container: String, now: Timestamp) {
    runner = .docker
    let words = container.split(whereSeparator: \.isWhitespace).map(String.init), name = DockerContainer.agentName
    guard words.count == 5, let restarts = Int64(words[1]), let pid = Int32(words[3]) else {
      state = .unknown(reason: "docker reports no state of container \(name)")
      return
    }
    let looping = "container \(name) crashes, Docker has restarted it \(restarts) times (exit status \(words[2]))"
    switch words[0] {
    case "paused": state = .suspended(pid: pid)
    case "restarting": state = .crashing(reason: looping)
    case "running":
      let isFresh = Timestamp(iso8601: words[4]).map { now - $0 < Self.stableAfter } ?? true
      state = restarts >= Self.restartLimit && isFresh ? .crashing(reason: looping) : .running(pid: pid)
    case "exited", "dead", "created":
      state = .ended(reason: "container \(name) is \(words[0]) (exit status \(words[2]))")
    default: state = .unknown(reason: "container \(name) is \(words[0])")
    }
  }

  /// As the process that supervises the agent reports it.
  package init(supervised agent: SidecarReport.Agent) {
    runner = .supervisor
    if agent.crashes > 0, agent.pid == nil || agent.crashes >= Self.restartLimit {
      state = .crashing(reason: "it has crashed \(agent.crashes) times (last: \(agent.lastCrash))")
    } else {
      state = agent.pid.map { .running(pid: $0) } ?? .unknown(reason: nil)
    }
  }

  /// With what the kernel knows of the process.
  /// - Parameter stat: the content of `/proc/PID/stat`: the state is the first word after the name in parentheses,
  ///   which may hold any character (proc(5)).
  package func with(stat: String) -> AgentProcess {
    guard case .running(let pid) = state, let end = stat.lastIndex(of: ")") else { return self }
    switch stat[stat.index(after: end)...].split(separator: " ").first {
    case "T", "t": return AgentProcess(runner, .suspended(pid: pid))
    default: return self
    }
  }
}
