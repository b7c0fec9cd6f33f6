import Foundation
import Testing

/// The Makefile explains itself, and what the documents name is there.
@Suite struct MakefileTests {
  private static func lines(_ path: String) throws -> [Substring] {
    try #require(try Repository.files([path]) { _ in true }.first).lines
  }

  /// The targets with a sentence: `target: … ## Sentence`.
  private static func documented() throws -> [String: String] {
    var sentences: [String: String] = [:]
    for line in try lines("Makefile") {
      guard let match = line.wholeMatch(of: /([a-z-]+):.*? ## (.+)/) else { continue }
      sentences[String(match.1)] = String(match.2)
    }
    return sentences
  }

  @Test func `every target has a sentence, but the internal ones`() throws {
    let text = try Self.lines("Makefile").joined(separator: "\n")
    let phony = try #require(text.firstMatch(of: /\.PHONY:((?:.*\\\n)*.*)/)).1
    let targets = Set(phony.split { $0.isWhitespace || $0 == "\\" }.map(String.init))
    let unlisted: Set = ["build-packages", "sandbox-packages", "sandbox-ready", "FORCE"]
    #expect(Set(try Self.documented().keys) == targets.subtracting(unlisted))
  }

  @Test func `help is the default, and shows every sentence`() throws {
    // Not run without a target: another default would build, and wait for the build that runs this test.
    #expect(try Self.lines("Makefile").contains(".DEFAULT_GOAL := help"))
    let shown = try run("make", "--no-print-directory", "help")
    for (target, sentence) in try Self.documented() {
      #expect(shown.contains("make \(target.padding(toLength: 13, withPad: " ", startingAt: 0)) \(sentence)\n"))
    }
  }

  @Test func `every target that a document names exists`() throws {
    let known = try Self.documented()
    let documents = try Repository.files(["README.md", "CONTRIBUTING.md", "docs", ".ci/run", "packer"]) {
      !$0.hasSuffix(".svg")
    }
    #expect(documents.count > 5)
    for file in documents {
      for line in file.lines {
        for match in line.matches(of: /(?:`|^ {4}|exec |: |\. )make ([a-z-]+)/) where known[String(match.1)] == nil {
          Issue.record("\(file.path): make \(match.1)")
        }
      }
    }
  }
}

/// Runs a program in the repository's root and returns what it writes to standard output.
func run(_ program: String, _ arguments: String...) throws -> String {
  let process = Process(), output = Pipe()
  process.executableURL = URL(filePath: "/usr/bin/env")
  process.arguments = [program] + arguments
  process.currentDirectoryURL = Repository.root
  // A test that `make check` runs must not see that make's options.
  process.environment = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("MAKE") && $0.key != "MFLAGS" }
  process.standardOutput = output
  try process.run()
  let bytes = try output.fileHandleForReading.readToEnd() ?? Data()
  process.waitUntilExit()
  #expect(process.terminationStatus == 0, "\(program) \(arguments)")
  return String(decoding: bytes, as: UTF8.self)
}
