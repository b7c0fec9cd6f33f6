internal import Base
internal import Model

/// An agent that systemd or Docker runs: what they know of its problems.
struct BackgroundAgent: AgentMonitor {
  let runner: AgentRunner
  let context: RuntimeContext

  private static let timeout = Duration.seconds(5)
  /// As many restarts before the first answer mean that it will not come up.
  private static let hopelessAfter = 3

  /// Why the agent will not come up, or nil while there is hope.
  func crashReason() async -> String? {
    if case .docker(let client) = runner { return await containerCrashReason(client) }
    return await unitCrashReason()
  }

  /// Of the agent's output.
  func lastLines() async -> [String] {
    var command = Command("/bin/journalctl", ["--unit=consul", "--lines=60", "--no-pager", "--output=cat"])
    if case .docker(let client) = runner {
      command = Command(client, ["logs", "--tail", "60", DockerContainer.agentName])
    }
    guard let result = try? await context.launcher.run(command, timeout: Self.timeout) else { return [] }
    return result.output.split(whereSeparator: \.isNewline).map(String.init)
  }

  private func unitCrashReason() async -> String? {
    let command = Command("/bin/systemctl", ["show", "--property=NRestarts,ActiveState,Result", SystemdUnit.name])
    guard let result = try? await context.launcher.run(command, timeout: Self.timeout), result.succeeded else {
      return nil
    }
    var properties: [String: String] = [:]
    for line in result.output.split(whereSeparator: \.isNewline) {
      let halves = line.split(separator: "=", maxSplits: 1)
      if halves.count == 2 { properties[String(halves[0])] = String(halves[1]) }
    }
    if properties["ActiveState"] == "failed" { return "its unit has failed (\(properties["Result"] ?? ""))" }
    guard let restarts = properties["NRestarts"].flatMap({ Int($0) }), restarts >= Self.hopelessAfter else {
      return nil
    }
    return "systemd has restarted it \(restarts) times"
  }

  private func containerCrashReason(_ client: String) async -> String? {
    let format = "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}"
    let command = Command(client, ["container", "inspect", "--format", format, DockerContainer.agentName])
    guard let result = try? await context.launcher.run(command, timeout: Self.timeout), result.succeeded else {
      return nil
    }
    let words = result.output.split { $0 == " " || $0 == "\n" }
    guard words.count >= 3, let restarts = Int(words[0]) else { return nil }
    if words[1] == "exited" { return "its container has ended with status \(words[2])" }
    return restarts >= Self.hopelessAfter ? "Docker has restarted it \(restarts) times" : nil
  }
}
