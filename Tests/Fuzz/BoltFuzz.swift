@testable import Consul

/// A raft database of whatever release, cut or damaged: the answer is yes, no or unknown, within a bounded time.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  _ = BoltDatabase(input(data, count)).hasEntries(inBucket: "logs")
  return 0
}
