internal import Model
internal import Base
internal import Doctor
internal import Synchronization

extension Subcommand {
  static let doctor = Subcommand(
    "doctor", usage: "[options] [--json]", summary: "check everything that a boot depends on",
    explanation:
      "doctor checks everything that a boot depends on: metadata, credentials, clock, each AWS call, the group, "
      + "the peers' ports, Consul, its configuration and data, this machine's ports, disk, names and units; after a "
      + "run also the agent, its cluster and the sidecar, as status does. "
      + "Without --config, options that are not set are those of the last run with the default --state-dir. It prints "
      + "a line for each check, and a hint for each problem. Exit status 1 means problems. On the machine it creates "
      + "only its state directory. At AWS it creates what a run with these options would create: an empty log stream, "
      + "its log group, the gossip key.",
    optionSource: .lastRun
  ) { invocation in
    invocation.dependencies.signals.deliver { invocation.dependencies.terminate(128 + $0) }
    return try await DoctorCommand(options: invocation.options, dependencies: invocation.dependencies).run()
  }
}

/// Prints a line for each check as soon as it is done.
struct DoctorCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies

  func run() async throws -> ExitStatus {
    let output = dependencies.output
    let findings = Mutex<[Finding]>([])
    let doctor = Doctor(
      settings: options.settings, context: dependencies.context, planner: dependencies.planner,
      metadata: dependencies.metadata,
      credentials: dependencies.credentials
    ) { finding in
      findings.withLock { $0.append(finding) }
      if !options.wantsJSON { output.write(text(finding)) }
    }
    try await doctor.run()
    let list = findings.withLock { $0 }, problems = list.count { $0.severity == .problem }
    if options.wantsJSON {
      output.write(
        JSONValue.object(["healthy": .bool(problems == 0), "findings": .array(list.map(\.json))]).prettyText)
    } else {
      let found = problems == 1 ? "1 problem found" : "\(problems) problems found"
      output.write(problems == 0 ? "\nall checks passed\n" : "\n\(found)\n")
    }
    return problems == 0 ? .done : .problemsFound
  }

  private func text(_ finding: Finding) -> String {
    let color: TextColor =
      switch finding.severity {
      case .ok: .green
      case .note: .yellow
      case .problem: .red
      }
    let name = finding.severity.rawValue, margin = String(repeating: " ", count: 8 - name.count)
    let time = finding.time.map { " (\($0.wholeMilliseconds) ms)" } ?? ""
    var text = "\(dependencies.output.colored(name, color))\(margin)\(finding.subject): \(finding.message)\(time)\n"
    if let hint = finding.hint, finding.severity != .ok { text += "        hint: \(hint)\n" }
    return text
  }
}
