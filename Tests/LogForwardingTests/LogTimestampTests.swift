import Base
import Foundation
import Host
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
  ])
  func `what is no time`(_ line: String) {
    #expect(LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now) == nil)
  }

  @Test func `random bytes are no trouble`() {
    var generator = SystemRandomNumberGenerator()
    let alphabet = Array("0123456789-:/T.Z+ <>{}\"tsJan,[]é")
    for _ in 0..<20_000 {
      let line = String(
        (0..<Int.random(in: 0...45, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! })
      _ = LogTimestamp().find(in: Array(line.utf8)[...], now: Self.now)
    }
  }
}
