import Base

/// `Expiration` of credentials: a time of the calendar that is written and read again, or none.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard let time = Timestamp(iso8601: inputText(data, count)) else { return 0 }
  precondition(Timestamp(iso8601: time.iso8601) == time, "not read as it was written")
  return 0
}
