import Base

/// The `Date` header of any server: a time of the calendar that is written and read as ISO 8601, or none.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard let time = Timestamp(httpDate: inputText(data, count)) else { return 0 }
  precondition(Timestamp(iso8601: time.iso8601) == time, "not read as it was written")
  return 0
}
