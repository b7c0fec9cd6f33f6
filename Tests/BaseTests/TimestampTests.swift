import Testing

@testable import Base

@Suite struct TimestampTests {
  @Test func `time is converted both ways`() {
    #expect(Timestamp(iso8601: "2024-02-29T23:59:59Z")?.basic == "20240229T235959Z")
    #expect(Timestamp(httpDate: "Sun, 06 Nov 1994 08:49:37 GMT")?.iso8601 == "1994-11-06T08:49:37.000Z")
    #expect(Timestamp(eventDate: "21 Jan 2026 09:00:43 GMT")?.iso8601 == "2026-01-21T09:00:43.000Z")
    #expect(Timestamp(seconds: 951_782_400).iso8601 == "2000-02-29T00:00:00.000Z")
    #expect(Timestamp(milliseconds: -1).iso8601 == "1969-12-31T23:59:59.999Z")
    #expect(Timestamp(iso8601: "2024-02-29T23:59:59.5Z") == Timestamp(milliseconds: 1_709_251_199_500))
  }

  @Test(arguments: [
    "", "x", "2024-01-01", "2024-13-01T00:00:00Z", "--2024-01-01T00:00:00Z", "+2024-01-01T00:00:00Z",
    "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00.-5Z", "2024-01-01T00:00:00.1.2Z", "2024-01-01T+1:00:00Z",
    "2024-01-01T:00:00:00Z", "9223372036854775807-01-01T00:00:00Z", "99999999999999999999-01-01T00:00:00Z",
  ])
  func `text that is no ISO 8601 date is refused`(_ text: String) {
    #expect(Timestamp(iso8601: text) == nil)
  }

  @Test(arguments: [
    "", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", "Sun, 06 Nov 9223372036854775807 08:49:37 GMT",
    "Sun, 06 Nov -1 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Nov 1994 9223372036854775807:00:00 GMT",
  ])
  func `text that is no HTTP date is refused`(_ text: String) {
    #expect(Timestamp(httpDate: text) == nil)
    #expect(Timestamp(eventDate: text) == nil && Timestamp(eventDate: String(text.dropFirst(5))) == nil)
  }

  /// Guards against a number from a foreign document, which would trap and end the process.
  @Test func `times at the ends of the range saturate and print`() {
    let first = Timestamp(milliseconds: .min), last = Timestamp(milliseconds: .max)
    #expect(Timestamp(seconds: .max) == last)
    #expect(Timestamp(seconds: .min) == first)
    #expect(last + .seconds(1) == last)
    #expect(first + .seconds(-1) == first)
    #expect(Timestamp(milliseconds: 0) + .seconds(Int64.max) == last)
    #expect(last - first == .milliseconds(Int64.max))
    #expect(first - last == .milliseconds(Int64.min))
    #expect(last.iso8601 == "292278994-08-17T07:12:55.807Z")
    #expect(first.iso8601 == "-292275055-05-16T16:47:04.192Z")
    #expect(first.basic == "-2922750550516T164704Z")
  }

  @Test(arguments: [
    (Duration.milliseconds(400), "0.4 s"), (.seconds(12), "12 s"), (.seconds(125), "2 min 5 s"),
    (.seconds(120), "2 min"),
    (.milliseconds(-1500), "-1.5 s"), (.seconds(-125), "-2 min 5 s"), (.zero, "0.0 s"),
    (.seconds(Int64.max), "153722867280912 min 55 s"), (.seconds(Int64.min), "-153722867280912 min 55 s"),
  ])
  func `a duration is written for people, whatever it is`(_ duration: Duration, _ text: String) {
    #expect(duration.humanReadable == text)
  }

  @Test func `milliseconds of a duration saturate`() {
    #expect(Duration.seconds(Int64.max).wholeMilliseconds == .max)
    #expect(Duration.seconds(Int64.min).wholeMilliseconds == .min)
    #expect(Duration.milliseconds(-1500).wholeMilliseconds == -1500)
  }
}
