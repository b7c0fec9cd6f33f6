import Testing

/// Rules for the tests themselves.
@Suite struct SuiteTests {
  /// A test that waits for what never comes ends by itself. The limit is far beyond a loaded machine's time.
  @Test func `suites that wait have a time limit`() throws {
    let files = try Repository.files(["Tests"]) { $0.hasSuffix("Tests.swift") }
    #expect(files.count > 50)
    for file in files where file.name != "SuiteTests.swift" && file.code.contains(where: { Self.waits($0.text) }) {
      for line in file.code where line.text.hasPrefix("@Suite") && !line.text.contains("timeLimit") {
        Issue.record("\(file.path):\(line.number): \(line.text)")
      }
    }
  }

  private static func waits(_ code: String) -> Bool { code.contains("async ") || code.contains("await ") }
}
