import Testing

@testable import LogForwarding

/// A name's way: new, present, missing, ending, closing, and new again.
@Suite struct MatchedFilesTests {
  @Test func `a file is new once, also when it is missing for less than the timeout`() {
    var files = MatchedFiles(timeout: .seconds(60))
    #expect(files.isEmpty && files.update(["b", "a"], at: .seconds(0)) == ["a", "b"] && !files.isEmpty)
    #expect(files.update(["b"], at: .seconds(10)) == [])
    #expect(files.update(["b"], at: .seconds(69)) == [] && !files.isEnding("a"))
    #expect(files.update(["a", "b"], at: .seconds(80)) == [])
    // Missing again: the timeout restarts.
    #expect(files.update(["b"], at: .seconds(90)) == [])
    #expect(files.update(["b"], at: .seconds(149)) == [] && !files.isEnding("a"))
    #expect(files.update(["b"], at: .seconds(150)) == [] && files.isEnding("a") && !files.isEnding("b"))
  }

  @Test func `a file that reappears while its stream ends is not new, and its stream is not closed`() {
    var files = MatchedFiles(timeout: .seconds(60))
    _ = files.update(["a"], at: .seconds(0))
    _ = files.update([], at: .seconds(0))
    _ = files.update([], at: .seconds(60))
    #expect(files.isEnding("a"))
    #expect(files.update(["a"], at: .seconds(61)) == [] && !files.isEnding("a"))
    let closes = files.close("a")
    #expect(!closes)
  }

  @Test func `a file that reappears while its stream is closed is new only afterwards`() {
    var files = MatchedFiles(timeout: .seconds(60))
    _ = files.update(["a"], at: .seconds(0))
    _ = files.update([], at: .seconds(0))
    _ = files.update([], at: .seconds(60))
    let closes = files.close("a")
    #expect(closes)
    #expect(files.update(["a"], at: .seconds(62)) == [])
    files.remove("a")
    #expect(files.update(["a"], at: .seconds(64)) == ["a"])
  }
}
