import Testing

/// Lines and files stay short enough to be read side by side.
@Suite struct StyleTests {
  static let longestLine = 120
  static let longestFile = 400

  /// Directories in which a line is a whole command or message, as the user sees it.
  static let withLongLines: Set = ["Tests/CommandsTests", "userdata"]

  /// Files that were longer before the rule.
  static let longFiles: Set = [
    "Tests/Sandbox/aws.py", "Tests/Sandbox/bench.py", "Tests/Sandbox/test_logs.py",
    "Tests/Sandbox/test_machine.py", "Tests/Sandbox/instance.py",
  ]

  static func files() throws -> [Repository.File] {
    try Repository.files(
      ["Sources", "Tests", ".ci", "packer", "userdata", "Makefile", "Package.swift"],
      where: { path in
        [".swift", ".c", ".h", ".py", ".sh"].contains { path.hasSuffix($0) } || path.hasPrefix(".ci/")
          || ["Makefile", "Tests/Fuzz/run", "Tests/Sandbox/sandbox"].contains(path)
      })
  }

  @Test func `lines have at most 120 columns`() throws {
    let files = try Self.files()
    #expect(files.count > 150)
    for file in files where !Self.withLongLines.contains(file.home) {
      for (offset, line) in file.lines.enumerated() where line.count > Self.longestLine {
        Issue.record("\(file.path):\(offset + 1) has \(line.count) columns")
      }
    }
  }

  @Test func `files have at most 400 lines`() throws {
    for file in try Self.files() where !Self.longFiles.contains(file.path) {
      // What follows the last newline is no line.
      #expect(file.lines.count - 1 <= Self.longestFile, "\(file.path)")
    }
  }
}
