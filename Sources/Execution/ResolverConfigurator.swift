internal import Base
internal import Model

/// Lets this machine resolve names through its agent, and undoes the change if names do not resolve.
///
/// A machine without Consul's names is better off than one without any names.
struct ResolverConfigurator: Sendable {
  let context: RuntimeContext

  /// The agent serves `consul.service.consul` once the leader has registered the servers, some seconds after an
  /// election.
  private static let timeout = Duration.seconds(15)
  private static let queryTimeout = Duration.seconds(1)
  private static let pause = Duration.milliseconds(250)
  /// systemctl waits for the resolver's start.
  private static let restartTimeout = Duration.seconds(30)

  /// Names that do not resolve are logged as an error; they do not fail the boot.
  /// - Returns: whether a change was made and stays.
  /// - Throws: `FileError`, or `CancellationError`.
  func apply(_ resolver: ResolverConfiguration) async throws -> Bool {
    let isNew = try context.files.readIfPresent(resolver.path) != Array(resolver.text.utf8)
    var reasons: [String] = []
    if isNew {
      try write(resolver.path, resolver.text)
      reasons = try await restart(resolver)
    }
    if reasons.isEmpty { reasons = try await unresolvedNames(resolver) }
    guard !reasons.isEmpty else {
      context.log.info("names resolve through the agent", ["names": .strings(resolver.names)])
      return isNew
    }
    try await undo(resolver, reasons)
    return false
  }

  private func undo(_ resolver: ResolverConfiguration, _ reasons: [String]) async throws {
    if let text = resolver.originalText {
      try write(resolver.path, text)
    } else {
      try context.files.removeFile(resolver.path)
    }
    let restartFailure = try await restart(resolver).first
    context.log.error(
      "names do not resolve through the agent; reverted the change of \(resolver.path)",
      [
        "reasons": .strings(reasons),
        "hint": .string(
          "check that this machine uses the resolver (/etc/resolv.conf), and query the agent: "
            + "dig @\(resolver.server) consul.service.consul"),
      ])
    if let restartFailure {
      context.log.error("cannot restart the resolver after the undo", ["reason": .string(restartFailure)])
    }
  }

  private func write(_ path: String, _ text: String) throws {
    try context.files.createDirectory(parentDirectory(of: path), mode: 0o755, owner: nil)
    try context.files.write(path, Array(text.utf8), mode: 0o644, owner: nil)
  }

  /// - Returns: why the resolver did not restart; empty if it did, or needs no restart.
  private func restart(_ resolver: ResolverConfiguration) async throws -> [String] {
    guard let command = resolver.restart else { return [] }
    do {
      let result = try await context.launcher.run(command, timeout: Self.restartTimeout)
      return result.succeeded ? [] : [result.failureText(of: command)]
    } catch let error as LaunchError {
      return ["`\(command.text)`: \(error.explanation)"]
    }
  }

  /// - Returns: each name that did not resolve in time, with the reason.
  private func unresolvedNames(_ resolver: ResolverConfiguration) async throws -> [String] {
    let start = context.uptime()
    var names = resolver.names
    while true {
      var unresolved: [(name: String, reason: String)] = []
      for name in names {
        do {
          let addresses = try await context.resolver.addresses(
            of: name, server: resolver.server, port: 53, timeout: Self.queryTimeout)
          if addresses.isEmpty { unresolved.append((name, "no address")) }
        } catch let error as NameError {
          unresolved.append((name, error.explanation))
        }
      }
      guard !unresolved.isEmpty, context.uptime() - start < Self.timeout else {
        return unresolved.map { "\($0.name): \($0.reason)" }
      }
      names = unresolved.map(\.name)
      context.log.progress("waiting for names to resolve: \(names.joined(separator: ", "))")
      try await context.clock.sleep(for: Self.pause)
    }
  }
}
