import Base
import Testing

@Suite struct FilePatternTests {
  @Test(arguments: [
    ("/a", false), ("/a/b.log", false), ("/a/*.log", true), ("/a?", true), ("/*", true), ("/a/[b]", false),
  ])
  func `wildcards are * and ? in the last part`(_ text: String, _ hasWildcards: Bool) {
    #expect(FilePattern(text)?.path == text && FilePattern(text)?.hasWildcards == hasWildcards)
  }

  @Test(arguments: ["", "a", "a/*.log", "/", "/a/", "/*/a.log", "/a?/b/*.log", "*"])
  func `anything else is no pattern`(_ text: String) { #expect(FilePattern(text) == nil) }

  @Test func `a file may have any name`() { #expect(!FilePattern(file: "/a/*").hasWildcards) }
}
