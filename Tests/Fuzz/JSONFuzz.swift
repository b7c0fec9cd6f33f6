import Base

/// Whatever is read is written so that it is read as the same value.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard let value = try? JSONValue(parsing: input(data, count)) else { return 0 }
  for text in [value.compactText, value.prettyText] {
    precondition((try? JSONValue(parsing: text)) == value, "not read as it was written")
  }
  return 0
}
