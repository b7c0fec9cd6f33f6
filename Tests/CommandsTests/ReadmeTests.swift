import Base
import Foundation
import Testing

@testable import Commands

/// README's tables are made from the definitions that the program itself uses.
/// `RECORD=1 swift test --filter ReadmeTests` writes the options anew, and fails.
@Suite struct ReadmeTests {
  static let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../README.md").standardizedFileURL

  private var table: String {
    Option.all.map { option in
      let usage = "--\(option.name)\(option.metavariable)".replacing("|", with: "\\|")
      return "| `\(usage)` | \(option.defaultText ?? "") | \(option.help)\(option.isList ? "; repeatable" : "") |"
    }.joined(separator: "\n")
  }

  @Test func `the options are the program's`() throws {
    let readme = try String(contentsOf: Self.path, encoding: .utf8)
    let head = "| Option | Default | |\n|---|---|---|\n"
    let start = try #require(readme.range(of: head)).upperBound
    let end = try #require(readme.range(of: "\n\n", range: start..<readme.endIndex)).lowerBound
    if ProcessInfo.processInfo.environment["RECORD"] != nil {
      try readme.replacingCharacters(in: start..<end, with: table).write(to: Self.path, atomically: true, encoding: .utf8)
      Issue.record("recorded; run again without RECORD")
    } else {
      #expect(readme[start..<end] == table)
    }
  }

  @Test func `the exit statuses are the program's`() throws {
    let readme = try String(contentsOf: Self.path, encoding: .utf8)
    for status in ExitStatus.allCases { #expect(readme.contains("| \(status.rawValue) | \(status.meaning)")) }
  }
}
