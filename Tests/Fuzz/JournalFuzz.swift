import Base

@testable import LogForwarding

private let format = CommandSource.CommandFormat.journal(unit: nil)

/// A line of `journalctl --output=json`: an entry that is read again as it was, or none.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard let entry = format.entry(input(data, count)[...]) else { return 0 }
  // The journal's times have microseconds.
  let (microseconds, overflow) = entry.time.milliseconds.multipliedReportingOverflow(by: 1000)
  guard !overflow else { return 0 }
  let written: JSONValue = [
    "MESSAGE": .string(entry.text), "__CURSOR": .string(entry.cursor),
    "__REALTIME_TIMESTAMP": .string(String(microseconds)),
  ]
  guard let again = format.entry(Array(written.compactText.utf8)[...]) else { preconditionFailure("not read again") }
  precondition(
    again.text == entry.text && again.time == entry.time && again.cursor == entry.cursor, "not read as it was written")
  return 0
}
