internal import Base
internal import Model

/// Makes the machine resolve names through its agent, tries it, and takes it back if names are not answered: a machine
/// without Consul's names is better off than one without any.
struct ResolverConfigurator: Sendable {
  let context: RuntimeContext

  /// The agent serves `consul.service.consul` once the leader has registered the servers, some seconds after an election.
  private static let patience = Duration.seconds(15)
  private static let timeout = Duration.seconds(1)

  /// - Returns: whether anything was changed and stays.
  /// - Throws: `FileError` or `LaunchError`.
  func apply(_ resolver: ResolverConfiguration) async throws -> Bool {
    let isNew = try context.files.readIfPresent(resolver.path) != Array(resolver.text.utf8)
    if isNew { try write(resolver.path, Array(resolver.text.utf8)) }
    let restartFailure = isNew ? try await restart(resolver) : nil
    var unanswered = restartFailure.map { [$0] } ?? []
    if restartFailure == nil { unanswered = try await unansweredNames(resolver) }
    guard !unanswered.isEmpty else {
      context.log.info("names are resolved through the agent", ["names": .strings(resolver.names)])
      return isNew
    }
    if let text = resolver.originalText {
      try write(resolver.path, Array(text.utf8))
    } else {
      try context.files.removeFile(resolver.path)
    }
    let undone = try await restart(resolver)
    context.log.error(
      "\(resolver.path) did not make names resolve; it is undone, and Consul's names are not resolved on this machine",
      [
        "unanswered": .strings(unanswered), "undone": undone.map(JSONValue.string) ?? true,
        "hint":
          "see whether the resolver is in use here (/etc/resolv.conf), and the agent's DNS with: dig @\(resolver.server) consul.service.consul",
      ])
    return false
  }

  private func write(_ path: String, _ bytes: [UInt8]) throws {
    if let slash = path.lastIndex(of: "/") {
      try context.files.createDirectory(String(path[..<slash]), mode: 0o755, owner: nil)
    }
    try context.files.write(path, bytes, mode: 0o644, owner: nil)
  }

  /// - Returns: what went wrong.
  private func restart(_ resolver: ResolverConfiguration) async throws -> String? {
    guard let command = resolver.restart else { return nil }
    let result = try await context.launcher.run(command, timeout: .seconds(30))
    guard !result.succeeded else { return nil }
    return "`\(command.text)`: \(result.end.explanation) \(result.output.split(whereSeparator: \.isNewline).last ?? "")"
  }

  private func unansweredNames(_ resolver: ResolverConfiguration) async throws -> [String] {
    let start = context.uptime()
    var rest = resolver.names
    var reasons: [String] = []
    while !rest.isEmpty {
      reasons = []
      for name in rest {
        do {
          let found = try await context.resolver.addresses(
            of: name, server: resolver.server, port: 53, timeout: Self.timeout)
          if found.isEmpty { reasons.append("\(name): no address") } else { rest.removeAll { $0 == name } }
        } catch let error as NameError {
          reasons.append("\(name): \(error.explanation)")
        }
      }
      guard !rest.isEmpty, context.uptime() - start < Self.patience else { break }
      try await context.clock.sleep(for: .milliseconds(250))
    }
    return rest.isEmpty ? [] : reasons
  }
}
