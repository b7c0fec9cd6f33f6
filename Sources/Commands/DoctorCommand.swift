internal import Base
internal import Bootstrap
internal import Doctor
internal import Execution
internal import Observers
internal import Sidecar
internal import Host
internal import Synchronization

/// `consul-bootstrap doctor`: a line for each thing that a boot depends on, as soon as it is known.
struct DoctorCommand: Sendable {
  let options: Options
  let dependencies: CommandDependencies
  let terminal: Terminal

  func run() async throws -> Never {
    let findings = Mutex<[Finding]>([])
    let doctor = Doctor(
      settings: options.settings, context: dependencies.context, planner: dependencies.planner,
      metadata: dependencies.metadata,
      credentials: dependencies.credentials
    ) { finding in
      findings.withLock { $0.append(finding) }
      if !options.wantsJSON { Machine.write(text(finding)) }
    }
    try await doctor.run()
    let list = findings.withLock { $0 }, wrong = list.count { $0.verdict == .wrong }
    if options.wantsJSON {
      Machine.write(JSONValue.object(["healthy": .bool(wrong == 0), "findings": .array(list.map(\.json))]).prettyText)
    } else {
      Machine.write(
        wrong == 0
          ? "\nall that a boot depends on is there\n"
          : "\n\(wrong) \(wrong == 1 ? "thing is" : "things are") to be mended\n")
    }
    Machine.exit(wrong == 0 ? 0 : 1)
  }

  private func text(_ finding: Finding) -> String {
    let color: Terminal.Color =
      switch finding.verdict {
      case .ok: .green
      case .note: .yellow
      case .wrong: .red
      }
    let name = finding.verdict.rawValue, margin = String(repeating: " ", count: 6 - name.count)
    let time = finding.time.map { " (\($0.wholeMilliseconds) ms)" } ?? ""
    var text = "\(terminal.colored(name, color))\(margin)\(finding.subject): \(finding.message)\(time)\n"
    if let hint = finding.hint, finding.verdict != .ok { text += "      hint: \(hint)\n" }
    return text
  }
}
