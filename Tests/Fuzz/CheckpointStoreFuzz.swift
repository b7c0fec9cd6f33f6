import Base
import LogForwarding

/// Whatever the file holds, it is refused or read; and what is read is written so that it is read again.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard let marks = try? CheckpointStore.parse(input(data, count)) else { return 0 }
  let again = try? CheckpointStore.parse(Array(CheckpointStore.json(marks).prettyText.utf8))
  precondition(again == marks, "not read as it was written")
  return 0
}
