import Foundation
import Testing

/// Keeps a private dialect out: programs, files and services are things, and terms are the field's.
@Suite struct LanguageTests {
  static let root = HouseTests.sources.appending(path: "..").standardizedFileURL

  /// Words that no sentence about a program needs, with what to write instead.
  static let words: [(pattern: String, instead: String)] = [
    (#"\b(who|whom|whoever)\b"#, "it, which, the instance"),
    (#"\b(some|no|any|every)body\b"#, "name the thing, or use the passive"),
    (#"\b(is|are|was|were) (said|told)\b"#, "reports, logs"), (#"\bknock"#, "probe"), (#"\bmend(s|ed|ing)?\b"#, "fix"),
    (#"\btroubles?\b"#, "problem, error"), (#"\bTwice is once\b"#, "idempotent"), (#"\banew\b"#, "again, restarts"),
  ]

  /// Where this holds; what is added later is added here, too.
  static let places = [
    "README.md", "CONTRIBUTING.md", "docs", "userdata", "packer", "Makefile", ".ci", "Sources", "Tests",
  ]

  private static func files(_ place: String) -> [URL] {
    let url = root.appending(path: place)
    guard let list = FileManager.default.enumerator(at: url, includingPropertiesForKeys: nil) else { return [url] }
    let found = list.compactMap { $0 as? URL }.filter { !$0.hasDirectoryPath }
    return found.isEmpty ? [url] : found
  }

  @Test(arguments: places)
  func `sentences use the field's terms`(_ place: String) throws {
    let files = Self.files(place)
    #expect(!files.isEmpty)
    let words = try Self.words.map { (regex: try Regex($0.pattern).ignoresCase(), instead: $0.instead) }
    for file in files where file.lastPathComponent != "LanguageTests.swift" {
      guard let text = try? String(contentsOf: file, encoding: .utf8) else { continue }
      for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
        for (regex, instead) in words {
          #expect(
            line.firstMatch(of: regex) == nil,
            "\(file.path(percentEncoded: false)):\(number + 1): \(instead): \(line)"
          )
        }
      }
    }
  }
}
