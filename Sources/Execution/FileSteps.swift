internal import Base
internal import Model

/// Steps that write files. Each returns whether it changed anything, and throws `FileError`; the step for the
/// configuration, which Consul validates, also `Failure` and `LaunchError`.
extension StepExecutor {
  /// This program has some 20 MB.
  private static let programLimit = 128 << 20

  func rename(_ path: String, to target: String) throws -> Bool {
    guard try context.files.status(path) != nil else { return false }
    try context.files.rename(path, to: target)
    return true
  }

  func createDirectory(_ path: String, _ mode: UInt32, _ owner: FileOwner?) throws -> Bool {
    if let status = try context.files.status(path), status.kind == .directory {
      guard let owner, status.user != owner.user else { return false }
      try context.files.changeOwner(path, owner)
    } else {
      try context.files.createDirectory(path, mode: mode, owner: owner)
    }
    return true
  }

  func setHostName(_ name: String) throws -> Bool {
    let hasChanged = try writeIfChanged("/etc/hostname", name + "\n", mode: 0o644, owner: nil)
    guard context.system.hostName != name else { return hasChanged }
    try context.system.setHostName(name)
    return true
  }

  func writeFile(_ path: String, _ text: String) throws -> Bool {
    try context.files.createDirectory(parentDirectory(of: path), mode: 0o755, owner: nil)
    return try writeIfChanged(path, text, mode: 0o644, owner: nil)
  }

  func copyProgram(_ source: String, to path: String) throws -> Bool {
    let program = try context.files.read(source, limit: Self.programLimit)
    if let status = try context.files.status(path), status.mode == 0o755,
      try context.files.readIfPresent(path, limit: Self.programLimit) == program
    {
      return false
    }
    try context.files.createDirectory(parentDirectory(of: path), mode: 0o755, owner: nil)
    try context.files.write(path, program, mode: 0o755, owner: nil)
    return true
  }

  func removeFile(_ path: String) throws -> Bool {
    // A link is there although its target may not be.
    guard try context.files.status(path) != nil || context.files.isLink(path) else { return false }
    try context.files.removeFile(path)
    return true
  }

  func writeUnit(_ path: String, _ text: String) throws -> Bool {
    if let current = try context.files.readIfPresent(path),
      !String(decoding: current, as: UTF8.self).hasPrefix(SystemdUnit.header)
    {
      let aside = "\(path).\(context.now().basic)"
      context.log.warning("another program wrote \(path); renaming it", ["to": .string(aside)])
      try context.files.rename(path, to: aside)
    }
    return try writeIfChanged(path, text, mode: 0o644, owner: nil)
  }

  /// Writes only if the text, the mode or, where one is given, the owner differs.
  func writeIfChanged(_ path: String, _ text: String, mode: UInt32, owner: FileOwner?) throws -> Bool {
    let bytes = Array(text.utf8)
    if let status = try context.files.status(path), status.mode == mode,
      owner.map({ $0.user == status.user && $0.group == status.group }) ?? true,
      try context.files.readIfPresent(path) == bytes
    {
      return false
    }
    try context.files.write(path, bytes, mode: mode, owner: owner)
    return true
  }

  /// Stages the file, lets Consul validate it with the rest of its directory, and only then replaces the present one.
  func write(_ file: ConfigurationFile) async throws -> Bool {
    let isValidated = await earlyValidation.covers(file)
    try Task.checkCancellation()
    if !isValidated, try context.files.readIfPresent(file.path) != Array(file.text.value.utf8) {
      try await validate(file)
    } else {
      ConfigurationValidation(context).removeStaged(file)
    }
    return try writeIfChanged(file.path, file.text.value, mode: 0o640, owner: file.owner)
  }

  private func validate(_ file: ConfigurationFile) async throws {
    let result = try await ConfigurationValidation(context).result(of: file)
    guard !result.succeeded else { return }
    throw Failure(
      .configurationRejected, "Consul rejects the configuration",
      details: ["`\(file.validation.text)`: \(result.end.explanation)"] + result.lastLines,
      hint: "check --set, --merge and the other files in \(parentDirectory(of: file.path)); nothing was changed")
  }
}
