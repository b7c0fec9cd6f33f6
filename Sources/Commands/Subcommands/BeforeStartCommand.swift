internal import Model
internal import Sidecar

extension Subcommand {
  static let beforeStart = Subcommand(
    "before-start", usage: "[options]", summary: "rename raft data that the cluster no longer counts on",
    explanation: "consul.service runs before-start before each start of a server's agent. If the leader's raft "
      + "configuration no longer names this server, which was off or had left, or if its data is of another cluster, "
      + "its raft data is renamed, and the agent joins empty. It takes at most 5 s, and does nothing where no server "
      + "can be asked.",
    optionSource: .lastRun
  ) { invocation in
    let dependencies = invocation.dependencies
    try await StartGate(
      settings: invocation.options.settings, context: dependencies.context, planner: dependencies.planner
    ).run()
    return .done
  }
}
