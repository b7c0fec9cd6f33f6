import Base
import Foundation
import Host
import TestSupport
import Testing

@testable import LogForwarding

@Suite struct LogTimestampTests {
  private static let now = Timestamp(iso8601: "2026-01-02T03:04:05Z")!

  @Test(arguments: [
    ("2026-01-02T03:04:05.678Z [INFO]  agent: x", "2026-01-02T03:04:05.678Z"),
    ("    2026-01-02T03:04:05.678+0100 [INFO]", "2026-01-02T02:04:05.678Z"),
    ("    2026/01/02 03:04:05 [INFO] agent: x", "2026-01-02T03:04:05.000Z"),
    ("[2026-01-02 03:04:05,5] x", "2026-01-02T03:04:05.500Z"),
    ("2026-01-02T03:04:05.123456789-05:30 x", "2026-01-02T08:34:05.123Z"),
    ("Jan  2 03:04:05 host prog: x", "2026-01-02T03:04:05.000Z"),
    ("<13>Dec 31 23:59:59 host x", "2025-12-31T23:59:59.000Z"), ("1767323045 x", "2026-01-02T03:04:05.000Z"),
    ("1767323045.25 x", "2026-01-02T03:04:05.250Z"), ("1767323045678 x", "2026-01-02T03:04:05.678Z"),
    ("<165>1 2026-01-02T03:04:05.003Z host", "2026-01-02T03:04:05.003Z"),
    (#"{"a":{"time":1},"@timestamp":"2026-01-02T03:04:05.5Z"}"#, "2026-01-02T03:04:05.500Z"),
    (#"{"time":"x \" y","ts":1767323045}"#, "2026-01-02T03:04:05.000Z"),
    (#"{"ts":1767323045,"timestamp" : 1767323046}"#, "2026-01-02T03:04:06.000Z"),
    (#"{"level":"info","timestamp":"2026-01-02T03:04:05.678Z"}"#, "2026-01-02T03:04:05.678Z"),
    (#"{"ts":1767323045.5}"#, "2026-01-02T03:04:05.500Z"),
  ])
  func `the forms that logs have`(_ line: String, _ time: String) {
    #expect(LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now)?.iso8601 == time)
  }

  @Test(arguments: [
    "", "plain text", "2026-13-02T03:04:05Z", "2026-01-02", "12 apples", "17673230451 x", "{", "{}",
    #"{"a":{"ts":1767323045}}"#, #"{"ts":"#,
    #"{"ts"#, "Jam  2 03:04:05", "<13", "1767323045-1",
    // Hostile numbers.
    "99999999999999999999999999999999", "9223372036854775807", "-9223372036854775808",
    #"{"ts":9223372036854775807}"#, #"{"ts":-9223372036854775808}"#, #"{"ts":1e308}"#, #"{"ts":99999999999999}"#,
    "9999-99-99T99:99:99Z", "0000-01-01T00:00:00Z", "Jan 99 99:99:99", "Jan 31 24:00:00",
  ])
  func `what is not a time`(_ line: String) {
    #expect(LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now) == nil)
  }

  /// The ends of the calendar, and fractions and offsets of any length.
  @Test(arguments: [
    ("0001-01-01T00:00:00+23:59", -62_135_683_140_000), ("9999-12-31T23:59:60-23:59", 253_402_387_140_000),
    ("2026-01-02T03:04:05.99999999999999999999999999999999999999Z", 1_767_323_045_999),
    ("9999999999", 9_999_999_999_000), ("9999999999999.9", 9_999_999_999_999), ("9999999999999", 9_999_999_999_999),
    ("9999999999.99999999999999999999999", 9_999_999_999_999), ("2026-01-02T03:04:05+99:99", 1_767_323_045_000),
  ])
  func `the largest and the smallest times`(_ line: String, _ milliseconds: Int64) {
    #expect(LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now)?.milliseconds == milliseconds)
  }

  @Test func `random bytes do not trap`() {
    var generator = SeededGenerator.fromEnvironment()
    let alphabet = Array("0123456789-:/T.Z+ <>{}\"tsJan,[]é")
    for _ in 0..<2000 {
      let line = String(
        (0..<Int.random(in: 0...45, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! })
      _ = LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now)
    }
  }
}
