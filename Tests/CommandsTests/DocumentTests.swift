import AWS
import Base
import Foundation
import Model
import Testing

@testable import Artifacts
@testable import Commands

/// The tables in the documents are the program's own definitions.
/// `RECORD=1 swift test --filter DocumentTests` writes them again, and fails.
@Suite struct DocumentTests {
  static let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..").standardizedFileURL

  private func text(_ path: String) throws -> String {
    try String(contentsOf: Self.root.appending(path: path), encoding: .utf8)
  }

  /// The rows of a table in a document, after its head.
  private func rows(_ document: String, head: String) throws -> Range<String.Index> {
    let start = try #require(document.range(of: head + "\n")).upperBound
    return start..<(try #require(document.range(of: "\n\n", range: start..<document.endIndex)).lowerBound)
  }

  @Test func `the options are the program's`() throws {
    let rows = Option.all.map { option in
      let usage = "--\(option.name)\(option.metavariable)".replacing("|", with: "\\|")
      return
        "| `\(usage)` | \(option.defaultValue?.text ?? "") | \(option.help)\(option.isList ? "; repeatable" : "") |"
    }
    try check("docs/options.md", head: "| Option | Default | |\n|---|---|---|", rows)
  }

  @Test func `the actions that the role must allow are the program's`() throws {
    let rows = IAMPermission.all.map { "| `\($0.action.iamAction)` | \($0.when) |" }
    try check("docs/operations.md", head: "| Action | Required |\n|---|---|", rows)
  }

  @Test func `the log sources are the program's`() throws {
    let rows = LogSource.forms.map { "| `\($0.form)` | \($0.content) |" }
    try check("docs/logs.md", head: "| Source | Content |\n|---|---|", rows)
  }

  /// The table in the document has these rows; with `RECORD` it gets them.
  private func check(_ path: String, head: String, _ expected: [String]) throws {
    let document = try text(path), table = expected.joined(separator: "\n")
    let range = try rows(document, head: head)
    if ProcessInfo.processInfo.environment["RECORD"] != nil {
      try document.replacingCharacters(in: range, with: table).write(
        to: Self.root.appending(path: path), atomically: true, encoding: .utf8)
      Issue.record("recorded; run again without RECORD")
    } else {
      #expect(document[range] == table)
    }
  }

  @Test func `the exit statuses are the program's`() throws {
    let document = try text("docs/options.md")
    for status in ExitStatus.allCases { #expect(document.contains("| \(status.rawValue) | \(status.meaning)")) }
  }

  /// A user searches the documents for the text of an error.
  @Test func `the messages in the troubleshooting table are the program's`() throws {
    let document = try text("docs/troubleshooting.md")
    let sources = FileManager.default.enumerator(
      at: Self.root.appending(path: "Sources"), includingPropertiesForKeys: nil)
    let code = try (sources?.compactMap { $0 as? URL } ?? []).filter { $0.pathExtension == "swift" }
      .map { try String(contentsOf: $0, encoding: .utf8) }.joined()
    let range = try rows(document, head: "| Message (exit status) | Cause | Fix |\n|---|---|---|")
    let rows = document[range].split(separator: "\n")
    #expect(rows.count > 10)
    for row in rows {
      let message = row.split(separator: "`")[1]
      for piece in message.split(separator: "…") where piece.contains(where: \.isLetter) {
        let isInCode = code.contains(piece.trimmingCharacters(in: CharacterSet(charactersIn: " :")))
        #expect(isInCode, "\(piece) in \(row)")
      }
    }
  }

  /// Every option and command that a document names exists.
  @Test func `options in the documents are the program's`() throws {
    let foreign: Set = [
      // Of other programs.
      "stack-name", "template-file", "capabilities", "parameter-overrides", "filter", "wait", "force-leave",
      "name", "type", "auto-scaling-group-name", "default-result", "instance-id",
      "no-should-decrement-desired-capacity", "should-decrement-desired-capacity",
    ]
    let known = Set(Option.all.map(\.name)).union(["config", "help", "version"]).union(foreign)
    for path in try documents() {
      for match in try text(path).matches(of: /`[^`]*?--([a-z][a-z0-9-]+)/) {
        #expect(known.contains(String(match.1)), "\(path): --\(match.1)")
      }
    }
  }

  private func documents() throws -> [String] {
    let docs = try FileManager.default.contentsOfDirectory(atPath: Self.root.appending(path: "docs").path)
    return ["README.md", "CONTRIBUTING.md"] + docs.filter { $0.hasSuffix(".md") }.sorted().map { "docs/\($0)" }
  }

  @Test func `the links in the documents lead somewhere, and README links every document`() throws {
    for path in try documents() {
      let directory = Self.root.appending(path: path).deletingLastPathComponent()
      for link in try text(path).matches(of: /\]\(([^)#]+)(#[^)]*)?\)/) where !link.1.hasPrefix("http") {
        let target = directory.appending(path: String(link.1))
        #expect(FileManager.default.fileExists(atPath: target.path), "\(path): \(link.1)")
      }
    }
    let readme = try text("README.md")
    for path in try documents() where path != "README.md" { #expect(readme.contains("](\(path))"), "\(path)") }
  }

  @Test func `the picture is drawn from its source`() throws {
    let source = try text("docs/boot.dot"), picture = try text("docs/boot.svg")
    let labels = source.matches(of: /label="([^"]+)"/)
    #expect(labels.count > 10)
    for label in labels {
      for line in String(label.1).components(separatedBy: "\\n") {
        let drawn = line.replacing("'", with: "&#39;").replacing("-", with: "&#45;")
        #expect(picture.contains(drawn), "make docs: \(line)")
      }
    }
  }
}
