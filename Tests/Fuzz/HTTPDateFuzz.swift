import Base

/// The `Date` header of any server, and EC2's time of a scheduled event: a time of the calendar that is written and
/// read as ISO 8601, or none.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let text = inputText(data, count)
  for time in [Timestamp(httpDate: text), Timestamp(eventDate: text)].compactMap({ $0 }) {
    precondition(Timestamp(iso8601: time.iso8601) == time, "not read as it was written")
  }
  return 0
}
