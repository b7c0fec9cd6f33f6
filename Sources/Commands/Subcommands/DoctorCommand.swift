internal import Base
internal import Doctor
internal import Synchronization

extension Subcommand {
  static let doctor = Subcommand(
    "doctor", usage: "[options] [--json]", summary: "check everything that a boot depends on",
    explanation: "doctor checks, with the options of a run (by default those of the last one), metadata, credentials, "
      + "clock, each AWS call, the group, the peers' ports, Consul, its configuration and data, this machine's ports, "
      + "disk, names and units. It prints a line for each check, and a hint for each problem. Exit status 1 means "
      + "problems. On the machine it creates only its state directory. At AWS it creates what a run with these options "
      + "would create: an empty log stream, its log group, the gossip key.",
    optionSource: .lastRun
  ) { invocation in
    invocation.dependencies.signals.deliver { invocation.dependencies.terminate(128 + $0) }
    return try await DoctorCommand(options: invocation.options, dependencies: invocation.dependencies).run()
  }
}

/// A line for each check, as soon as it is known.
struct DoctorCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies

  func run() async throws -> Int32 {
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
    let list = findings.withLock { $0 }, wrong = list.count { $0.verdict == .wrong }
    if options.wantsJSON {
      output.write(JSONValue.object(["healthy": .bool(wrong == 0), "findings": .array(list.map(\.json))]).prettyText)
    } else {
      output.write(
        wrong == 0
          ? "\nall that a boot depends on is there\n"
          : "\n\(wrong) \(wrong == 1 ? "thing is" : "things are") to be mended\n")
    }
    return wrong == 0 ? 0 : 1
  }

  private func text(_ finding: Finding) -> String {
    let color: TextColor =
      switch finding.verdict {
      case .ok: .green
      case .note: .yellow
      case .wrong: .red
      }
    let name = finding.verdict.rawValue, margin = String(repeating: " ", count: 6 - name.count)
    let time = finding.time.map { " (\($0.wholeMilliseconds) ms)" } ?? ""
    var text = "\(dependencies.output.colored(name, color))\(margin)\(finding.subject): \(finding.message)\(time)\n"
    if let hint = finding.hint, finding.verdict != .ok { text += "      hint: \(hint)\n" }
    return text
  }
}
