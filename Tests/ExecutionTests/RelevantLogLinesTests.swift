import Testing

@testable import Execution

@Suite struct RelevantLogLinesTests {
  /// An error once showed only the banner of the next start.
  @Test func `the latest errors of an agent are kept although the banner of its next start covers them`() {
    let banner = (1...12).map { "banner \($0)" }
    let errors = (1...6).map { "[ERROR] agent: reason \($0)" }
    #expect(
      relevantLogLines(of: ["x", "==> Error starting agent"] + banner) == ["==> Error starting agent"]
        + banner.suffix(10))
    #expect(relevantLogLines(of: errors + banner) == errors.suffix(5) + banner.suffix(10))
    #expect(relevantLogLines(of: ["one", "two"]) == ["one", "two"])
  }
}
