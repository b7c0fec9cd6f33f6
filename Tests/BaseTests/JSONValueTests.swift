import Testing

@testable import Base

@Suite struct JSONValueTests {
  /// A peer whose answer takes minutes to parse would hang the boot: 10,000 numbers at depth 500 did.
  @Test func `a document that is nested too deep is refused before it is parsed`() {
    for depth in [65, 500, 511, 100_000] {
      let inside = Array(repeating: "0", count: 10_000).joined(separator: ",")
      let text = String(repeating: "[", count: depth) + inside + String(repeating: "]", count: depth)
      let start = ContinuousClock.now
      #expect {
        try JSONValue(parsing: text)
      } throws: { ($0 as? JSONSyntaxError)?.description == "nested deeper than 64 levels" }
      #expect(ContinuousClock.now - start < .seconds(5))
    }
  }

  @Test(arguments: [
    String(repeating: "[", count: 64) + String(repeating: "]", count: 64),
    String(repeating: #"{"a":"#, count: 64) + "1" + String(repeating: "}", count: 64),
    #"[""# + String(repeating: "[", count: 100) + #""]"#, #"["\\\""# + String(repeating: "{", count: 100) + #""]"#,
  ])
  func `64 levels are taken, and brackets in a text are none`(_ text: String) {
    #expect(throws: Never.self) { try JSONValue(parsing: text) }
  }
}
