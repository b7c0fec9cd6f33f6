package import Base
internal import Foundation

/// Processes in memory: results by program and start of the arguments, the one set up last first.
///
/// A command that was not set up crashes the test.
package final class FakeLauncher: ProcessLauncher {
  package struct Launch: Sendable, Equatable {
    package enum Kind: Sendable { case run, start, follow }

    package let kind: Kind
    package let command: Command
    /// Of `start`.
    package var owner: FileOwner?
    package var mayBindLowPorts = false
    /// Of `run`.
    package var timeout: Duration?

    package init(
      kind: Kind, command: Command, owner: FileOwner? = nil, mayBindLowPorts: Bool = false, timeout: Duration? = nil
    ) {
      (self.kind, self.command, self.owner) = (kind, command, owner)
      (self.mayBindLowPorts, self.timeout) = (mayBindLowPorts, timeout)
    }
  }

  /// Gets the command and its timeout.
  package typealias Run = @Sendable (Command, Duration) async throws -> CommandResult

  private enum Effect {
    case run(Run)
    case start(@Sendable (Command) throws(LaunchError) -> FakeProcess)
    case follow(@Sendable (Command) throws(LaunchError) -> FakeFollowedProcess)
  }

  private struct Rule {
    let kind: Launch.Kind
    let program: String
    let arguments: [String]
    var times: Int
    let effect: Effect
  }

  private struct State {
    var rules: [Rule] = []
    var launches: [Launch] = []
    var processes: [FakeProcess] = []
    var followed: [FakeFollowedProcess] = []
  }

  private let state = Watched(State())
  private let clock: TestClock

  package init(clock: TestClock) { self.clock = clock }

  /// Every launch so far, those that failed included.
  package var launches: [Launch] { state.value.launches }

  /// Their command lines as one would type them.
  package var commands: [String] { launches.map(\.command.text) }

  /// Waits until the program was started so many times, and returns that process.
  package func process(_ number: Int = 1) async throws -> FakeProcess {
    try await state.wait { $0.processes.count >= number ? $0.processes[number - 1] : nil }
  }

  /// Waits until a program was followed so many times, and returns that process.
  package func followed(_ number: Int = 1) async throws -> FakeFollowedProcess {
    try await state.wait { $0.followed.count >= number ? $0.followed[number - 1] : nil }
  }

  /// Waits for a launch whose command line begins so.
  @discardableResult
  package func launch(_ text: String, number: Int = 1) async throws -> Launch {
    try await state.wait { state in
      let found = state.launches.filter { $0.command.text.hasPrefix(text) }
      return found.count >= number ? found[number - 1] : nil
    }
  }

  /// `run` of the program gives a result.
  /// - Parameters:
  ///   - arguments: those that the command begins with.
  ///   - delay: how long it runs, on the test clock; at its timeout it is killed.
  ///   - times: how often, before what was set up earlier serves again.
  package func run(
    _ program: String, _ arguments: [String] = [], end: ProcessEnd = .exited(0), output: String = "",
    after delay: Duration = .zero, times: Int = .max
  ) {
    onRun(program, arguments, times: times) { [clock] _, timeout in
      if delay > .zero { try await clock.sleep(for: min(delay, timeout)) }
      guard delay < timeout else {
        return CommandResult(end: .signalled(9), output: output + "\nkilled after \(timeout.humanReadable)")
      }
      return CommandResult(end: end, output: output)
    }
  }

  /// `run` of the program calls the closure.
  package func onRun(_ program: String, _ arguments: [String] = [], times: Int = .max, _ body: @escaping Run) {
    add(Rule(kind: .run, program: program, arguments: arguments, times: times, effect: .run(body)))
  }

  /// `start` of the program gives a process that the test controls.
  /// - Parameter prepare: called with each before the flow gets it.
  package func start(
    _ program: String, _ arguments: [String] = [], times: Int = .max,
    _ prepare: @escaping @Sendable (FakeProcess) -> Void = { _ in }
  ) {
    let effect = Effect.start { _ in
      let process = FakeProcess()
      prepare(process)
      return process
    }
    add(Rule(kind: .start, program: program, arguments: arguments, times: times, effect: effect))
  }

  /// `follow` of the program gives a process that the test feeds.
  /// - Parameter prepare: called with each before the flow gets it.
  package func follow(
    _ program: String, _ arguments: [String] = [], times: Int = .max,
    _ prepare: @escaping @Sendable (FakeFollowedProcess) -> Void = { _ in }
  ) {
    let effect = Effect.follow { _ in
      let process = FakeFollowedProcess()
      prepare(process)
      return process
    }
    add(Rule(kind: .follow, program: program, arguments: arguments, times: times, effect: effect))
  }

  /// The program cannot be started, in any of the three ways.
  package func fail(
    _ program: String, _ arguments: [String] = [], stage: String = "execute",
    reason: String = "No such file or directory",
    times: Int = .max
  ) {
    let error = LaunchError(program: program, stage: stage, reason: reason)
    for (kind, effect) in [
      (Launch.Kind.run, Effect.run { _, _ in throw error }), (.start, .start { _ throws(LaunchError) in throw error }),
      (.follow, .follow { _ throws(LaunchError) in throw error }),
    ] { add(Rule(kind: kind, program: program, arguments: arguments, times: times, effect: effect)) }
  }

  private func add(_ rule: Rule) { state.update { $0.rules.insert(rule, at: 0) } }

  package func run(_ command: Command, timeout: Duration) async throws -> CommandResult {
    try Task.checkCancellation()
    guard case .run(let body) = effect(Launch(kind: .run, command: command, timeout: timeout)) else {
      forgotten("a result of \(command.text)")
    }
    return try await body(command, timeout)
  }

  package func start(
    _ command: Command, as owner: FileOwner?, mayBindLowPorts: Bool, copy: (any OutputSink)?
  ) throws(LaunchError) -> any RunningProcess {
    let launch = Launch(kind: .start, command: command, owner: owner, mayBindLowPorts: mayBindLowPorts)
    guard case .start(let make) = effect(launch) else { forgotten("a start of \(command.text)") }
    let process = try make(command)
    process.attach(copy)
    state.update { $0.processes.append(process) }
    return process
  }

  package func follow(_ command: Command) throws(LaunchError) -> any FollowedProcess {
    guard case .follow(let make) = effect(Launch(kind: .follow, command: command)) else {
      forgotten("a process to follow: \(command.text)")
    }
    let process = try make(command)
    state.update { $0.followed.append(process) }
    return process
  }

  private func effect(_ launch: Launch) -> Effect? {
    state.update { state in
      state.launches.append(launch)
      let found = state.rules.firstIndex { rule in
        rule.kind == launch.kind && rule.times > 0 && rule.program == launch.command.program
          && launch.command.arguments.starts(with: rule.arguments)
      }
      guard let found else { return nil }
      if state.rules[found].times < .max { state.rules[found].times -= 1 }
      return state.rules[found].effect
    }
  }
}
