internal import Base
internal import Model

/// Stages a configuration, and lets Consul validate it together with the rest of its directory.
struct ConfigurationValidation {
  private let context: RuntimeContext

  /// `consul validate` takes some 30 ms; a machine under load at boot may need much longer.
  private static let timeout = Duration.seconds(30)

  init(_ context: RuntimeContext) { self.context = context }

  /// - Throws: `FileError`, `LaunchError`, or `CancellationError`.
  func result(of file: ConfigurationFile) async throws -> CommandResult {
    defer { removeStaged(file) }
    try context.files.write(file.stagedPath, Array(file.text.value.utf8), mode: 0o600, owner: nil)
    return try await context.launcher.run(file.validation, timeout: Self.timeout)
  }

  /// Also what a killed run left behind.
  func removeStaged(_ file: ConfigurationFile) {
    do {
      guard try context.files.status(file.stagedPath) != nil || context.files.isLink(file.stagedPath) else { return }
      try context.files.removeFile(file.stagedPath)
    } catch {
      context.log.warning(
        "cannot remove the staged configuration, which may hold secrets", ["reason": .string(error.explained)])
    }
  }
}
