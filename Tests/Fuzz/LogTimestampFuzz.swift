import Base
import LogForwarding

private let now = Timestamp(iso8601: "2026-01-02T03:04:05Z")!
private let times = LogTimestamp(key: "when")

/// Whatever a line holds, its time is one of the calendar's, and what is written as ISO 8601 is read as it was.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let line = input(data, count)
  guard let time = times.find(in: line[...], now: now) else { return 0 }
  precondition((-62_200_000_000_000..<253_500_000_000_000).contains(time.milliseconds), "a time of no year")
  guard (0..<253_400_000_000_000).contains(time.milliseconds) else { return 0 }
  precondition(times.find(in: Array(time.iso8601.utf8)[...], now: now) == time, "not read as it was written")
  return 0
}
