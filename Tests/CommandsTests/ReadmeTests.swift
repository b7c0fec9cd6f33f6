import AWS
import Base
import Foundation
import Testing

@testable import Artifacts
@testable import Commands

/// README's tables are made from the definitions that the program itself uses.
/// `RECORD=1 swift test --filter ReadmeTests` writes the tables anew, and fails.
@Suite(.serialized) struct ReadmeTests {
  static let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../README.md")
    .standardizedFileURL

  @Test func `the options are the program's`() throws {
    let rows = Option.all.map { option in
      let usage = "--\(option.name)\(option.metavariable)".replacing("|", with: "\\|")
      return
        "| `\(usage)` | \(option.defaultValue?.text ?? "") | \(option.help)\(option.isList ? "; repeatable" : "") |"
    }
    try check("| Option | Default | |\n|---|---|---|\n", rows)
  }

  @Test func `the actions that the role must allow are the program's`() throws {
    let rows = IAMPermission.all.map { "| `\($0.action.iamAction)` | \($0.when) |" }
    try check("| Action | Needed |\n|---|---|\n", rows)
  }

  /// The table below a head has these rows; with `RECORD` it gets them.
  private func check(_ head: String, _ rows: [String]) throws {
    let table = rows.joined(separator: "\n")
    let readme = try String(contentsOf: Self.path, encoding: .utf8)
    let start = try #require(readme.range(of: head)).upperBound
    let end = try #require(readme.range(of: "\n\n", range: start..<readme.endIndex)).lowerBound
    if ProcessInfo.processInfo.environment["RECORD"] != nil {
      try readme.replacingCharacters(in: start..<end, with: table).write(
        to: Self.path, atomically: true, encoding: .utf8)
      Issue.record("recorded; run again without RECORD")
    } else {
      #expect(readme[start..<end] == table)
    }
  }

  @Test func `the exit statuses are the program's`() throws {
    let readme = try String(contentsOf: Self.path, encoding: .utf8)
    for status in ExitStatus.allCases { #expect(readme.contains("| \(status.rawValue) | \(status.meaning)")) }
  }

  /// What a person searches README for is what the program said.
  @Test func `the messages in the failure table are the program's`() throws {
    let readme = try String(contentsOf: Self.path, encoding: .utf8)
    let sources = Self.path.deletingLastPathComponent().appending(path: "Sources")
    let files =
      FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil)?.compactMap { $0 as? URL } ?? []
    let code = try files.filter { $0.pathExtension == "swift" }.map { try String(contentsOf: $0, encoding: .utf8) }
      .joined()
    let head = "| What one sees | Why | What to do |\n|---|---|---|\n"
    let start = try #require(readme.range(of: head)).upperBound
    let end = try #require(readme.range(of: "\n\n", range: start..<readme.endIndex)).lowerBound
    let rows = readme[start..<end].split(separator: "\n")
    #expect(rows.count > 10)
    for row in rows {
      let message = row.split(separator: "`")[1]
      for piece in message.split(separator: "…") where piece.contains(where: \.isLetter) {
        let isThere = code.contains(piece.trimmingCharacters(in: CharacterSet(charactersIn: " :")))
        #expect(isThere, "\(piece) in \(row)")
      }
    }
  }

  @Test func `the links in the documents lead somewhere`() throws {
    let root = Self.path.deletingLastPathComponent()
    for name in ["README.md", "CONTRIBUTING.md"] {
      let text = try String(contentsOf: root.appending(path: name), encoding: .utf8)
      for link in text.matches(of: /\]\(([^)#]+)\)/) where !link.1.hasPrefix("http") {
        #expect(FileManager.default.fileExists(atPath: root.appending(path: String(link.1)).path), "\(name): \(link.1)")
      }
    }
  }

  @Test func `the picture is made from its source`() throws {
    let docs = Self.path.deletingLastPathComponent().appending(path: "docs")
    let source = try String(contentsOf: docs.appending(path: "boot.dot"), encoding: .utf8)
    let picture = try String(contentsOf: docs.appending(path: "boot.svg"), encoding: .utf8)
    for label in source.matches(of: /label="([^"]+)"/) {
      for line in String(label.1).components(separatedBy: "\\n") {
        let drawn = line.replacing("'", with: "&#39;").replacing("-", with: "&#45;")
        #expect(picture.contains(drawn), "make docs: \(line)")
      }
    }
  }
}
