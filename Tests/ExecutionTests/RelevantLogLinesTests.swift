import Testing

@testable import Execution

@Suite struct RelevantLogLinesTests {
  /// Guards against an error that shows only the banner of the agent's next start.
  @Test func `an agent's errors are told although later lines cover them`() {
    let banner = (1...12).map { "banner \($0)" }
    let errors = (1...6).map { "[ERROR] agent: reason \($0)" }
    #expect(
      relevantLogLines(of: ["x", "==> Error starting agent"] + banner) == ["==> Error starting agent"]
        + banner.suffix(10))
    #expect(relevantLogLines(of: errors + banner) == errors.suffix(5) + banner.suffix(10))
    #expect(relevantLogLines(of: ["one", "two"]) == ["one", "two"])
  }
}
