import Testing

@testable import Commands

@Suite struct LineDiffTests {
  @Test func `a diff shows what goes and what comes`() {
    #expect(lineDiff("a\nb\nc\n", "a\nx\nc\n") == ["  a", "- b", "+ x", "  c"])
    #expect(lineDiff("", "a\n") == ["+ a"])
  }
}
