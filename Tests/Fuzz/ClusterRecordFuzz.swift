import Model

/// Whatever a parameter holds, it is refused or read; and what is read is written so that it is read again, if it fits.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let text = String(decoding: input(data, count), as: UTF8.self)
  guard let record = try? ClusterRecord(parsing: text), let written = try? record.text() else { return 0 }
  precondition((try? ClusterRecord(parsing: written)) == record, "not read as it was written")
  return 0
}
