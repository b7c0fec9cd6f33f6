import Testing

/// Lines and files stay short enough to be read side by side.
@Suite struct StyleTests {
  static let longestLine = 120
  static let longestFile = 400

  /// In which a line of code is a whole command, as the user copies it.
  static let withLongCommands = ["userdata/"]

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
    for file in files where !Self.withLongCommands.contains(where: file.path.hasPrefix) {
      for (offset, line) in file.lines.enumerated() where line.count > Self.longestLine {
        Issue.record("\(file.path):\(offset + 1) has \(line.count) columns")
      }
    }
  }

  /// In Markdown everything except tables, which cannot be wrapped, and code; in user-data the comments.
  @Test func `lines of prose have at most 120 columns`() throws {
    let documents = try Repository.files(["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"]) {
      $0.hasSuffix(".md")
    }
    let userdata = try Repository.files(Self.withLongCommands.map { String($0.dropLast()) }) { path in
      [".sh", ".yaml", ".tf"].contains { path.hasSuffix($0) }
    }
    #expect(documents.count > 8 && userdata.count > 20)
    let isProse = { (line: Substring, file: Repository.File) in
      file.path.hasSuffix(".md")
        ? !line.hasPrefix("|") && !line.hasPrefix("    ") : line.drop { $0 == " " }.hasPrefix("#")
    }
    for file in documents + userdata {
      for (offset, line) in file.lines.enumerated() where line.count > Self.longestLine && isProse(line, file) {
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
