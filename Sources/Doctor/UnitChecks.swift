internal import Base
internal import Decisions
internal import Model
internal import Observers

/// Checks of the units, and of the configuration that a run would write now.
extension MachineChecks {
  private static let systemctlTimeout = Duration.seconds(10)
  private static let validateTimeout = Duration.seconds(30)

  /// - Parameter machine: nil if it is not known.
  func units(_ machine: MachineObservation?) async {
    guard context.system.isBootedBySystemd else {
      if settings.start == .systemd {
        report(.problem("unit", "systemd is not the init system here", hint: "omit --start systemd"))
      }
      return
    }
    let runsAgent = settings.start != .docker && settings.start != Settings.Start.none
    if runsAgent, let machine, case .text(let text) = machine.unit, !text.hasPrefix(SystemdUnit.header) {
      report(.note("unit", "another program wrote \(SystemdUnit.path); a run renames it"))
    }
    for unit in (runsAgent ? [SystemdUnit.name] : []) + [SidecarUnit.name] {
      await check(unit)
    }
  }

  /// `systemctl show` succeeds for a unit that does not exist, too.
  private func check(_ unit: String) async {
    let command = Command.systemctl("show", "--property=ActiveState,SubState,LoadState,Result", unit)
    let reason: String
    do {
      let result = try await context.launcher.run(command, timeout: Self.systemctlTimeout)
      if result.succeeded {
        if let finding = finding(unit, result.unitProperties) { report(finding) }
        return
      }
      reason = result.failureText(of: command)
    } catch {
      reason = error.explained
    }
    report(
      .problem(
        "unit", "cannot check \(unit): \(reason)",
        hint: "check that systemd and D-Bus are running: systemctl is-system-running"))
  }

  /// Nil for a unit that is not started although a run has started it: `NodeChecks` reports that.
  private func finding(_ unit: String, _ state: [String: String]) -> Finding? {
    switch (state["LoadState"], state["ActiveState"]) {
    case ("masked", _): return .problem("unit", "\(unit) is masked", hint: "systemctl unmask \(unit)")
    case (_, "failed"):
      let reason = state["Result"].map { " (\($0))" } ?? ""
      return .problem("unit", "\(unit) has failed\(reason)", hint: "see journalctl -u \(unit)")
    case _ where state["SubState"]?.hasPrefix("auto-restart") == true:
      return .problem("unit", "\(unit) crashes, and systemd restarts it", hint: "see journalctl -u \(unit)")
    case (_, let active?) where ["activating", "deactivating", "active", "reloading"].contains(active):
      return .ok("unit", "\(unit) is \(active)")
    default:
      return settings.hasRun(context.files) ? nil : .ok("unit", "\(unit) is not started yet; a run starts it")
    }
  }

  // MARK: The configuration

  /// The configuration that a run would write now, validated by Consul itself.
  func configuration(_ observation: Observation, _ instance: LocatedInstance, _ planner: Planner) async {
    do {
      let plan = try await planner.plan(at: instance, .dryRun)
      if let obstacle = plan.obstacle, !failures(of: observation.machine).contains(obstacle) {
        // A supervised agent that runs belongs to a run that still runs.
        report(
          observation.machine.agentIsRunning && obstacle.status == .agentNotStarted
            ? .note("plan", "another run would stop: \(obstacle.message)", hint: obstacle.hint)
            : .problem("plan", obstacle))
      }
      for warning in plan.warnings { report(.note("plan", warning)) }
      try await validate(plan.sidecarSteps.configuration.staged(at: settings.stateDirectory + "/doctor.json"))
      report(.ok("plan", "a run would decide now: \(plan.decision.name)"))
    } catch {
      report(.problem("plan", error))
    }
  }

  /// Those of files, which are reported without a plan, too: a plan needs AWS, and has one obstacle at most.
  private func failures(of machine: MachineObservation) -> [Failure] {
    machine.unreadable.map(\.failure) + machine.otherFileFailures
  }

  /// Staged under a name of the doctor's own: a run on this machine may be validating its file at the same time.
  private func validate(_ file: ConfigurationFile) async throws {
    try context.files.createDirectory(settings.stateDirectory, mode: 0o755, owner: nil)
    try context.files.write(file.stagedPath, Array(file.text.value.utf8), mode: 0o600, owner: nil)
    defer { remove(file.stagedPath) }
    let result = try await context.launcher.run(file.validation, timeout: Self.validateTimeout)
    if result.succeeded {
      report(.ok("configuration", "Consul accepts the configuration that a run would write"))
    } else {
      let words = result.output.split(whereSeparator: \.isNewline).suffix(5).joined(separator: "; ")
      report(
        .problem(
          "configuration", "Consul rejects the configuration that a run would write: \(words)",
          hint: "check --set, --merge and the other files beside \(file.path)"))
    }
  }

  /// The file may hold secrets.
  private func remove(_ path: String) {
    do {
      try context.files.removeFile(path)
    } catch {
      report(.note("configuration", "cannot remove the staged configuration: \(error.explained)", hint: "rm \(path)"))
    }
  }
}
