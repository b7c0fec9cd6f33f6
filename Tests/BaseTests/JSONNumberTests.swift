import Base
import Testing

@Suite struct JSONNumberTests {
  /// A fraction that a Double cannot hold gave a number that was written as an integer, and read as another value:
  /// found by `JSONFuzz`.
  @Test(arguments: [
    "0", "-1", "1.5", "1e3", "9223372036854775807", "-9223372036854775808", "-9223372036854775809",
    "92233722233720368.4775801", "-92233722233720368.5", "1e300", "0.1",
  ])
  func `a number is read as it was written`(_ text: String) throws {
    let value = try JSONValue(parsing: "[\(text)]")
    #expect(try JSONValue(parsing: value.compactText) == value)
  }

  @Test func `a number that is an integer is one`() throws {
    #expect(
      try JSONValue(parsing: "[1e3, 2.0, 92233722233720368.4775801, 1.5]")
        == [1000, 2, 92_233_722_233_720_368, .number(1.5)])
  }
}
