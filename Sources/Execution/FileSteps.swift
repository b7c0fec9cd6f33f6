internal import Base
internal import Model

/// Steps that write files.
extension StepExecutor {
  /// `consul validate` takes some 30 ms; a machine under load at boot may need much longer.
  private static let validateTimeout = Duration.seconds(30)
  /// This program has some 20 MB.
  private static let largestProgram = 128 << 20

  func moveAside(_ path: String, to target: String) throws -> Bool {
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
    try context.files.createDirectory(directory(of: path), mode: 0o755, owner: nil)
    return try writeIfChanged(path, text, mode: 0o644, owner: nil)
  }

  func copyProgram(_ source: String, to path: String) throws -> Bool {
    let program = try context.files.read(source, limit: Self.largestProgram)
    if let status = try context.files.status(path), status.mode == 0o755,
      try context.files.readIfPresent(path, limit: Self.largestProgram) == program
    {
      return false
    }
    try context.files.createDirectory(directory(of: path), mode: 0o755, owner: nil)
    try context.files.write(path, program, mode: 0o755, owner: nil)
    return true
  }

  func removeFile(_ path: String) throws -> Bool {
    guard try context.files.status(path) != nil else { return false }
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
    let mode: UInt32 = 0o640
    let bytes = Array(file.text.value.utf8)
    if let current = try context.files.readIfPresent(file.path), current == bytes {
      return try writeIfChanged(file.path, file.text.value, mode: mode, owner: file.owner)
    }
    try context.files.write(file.stagedPath, bytes, mode: 0o600, owner: nil)
    defer { try? context.files.removeFile(file.stagedPath) }
    let result = try await context.launcher.run(file.validation, timeout: Self.validateTimeout)
    guard result.succeeded else {
      throw Failure(
        .configurationRejected, "Consul rejects the configuration",
        details: ["`\(file.validation.text)`: \(result.end.explanation)"] + Self.lastLines(result.output),
        hint: "nothing was changed; check --set, --merge and the other files beside \(file.path)")
    }
    return try writeIfChanged(file.path, file.text.value, mode: mode, owner: file.owner)
  }

  func directory(of path: String) -> String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) }

  static func lastLines(_ text: String) -> [String] {
    text.split(whereSeparator: \.isNewline).suffix(10).map(String.init)
  }
}
