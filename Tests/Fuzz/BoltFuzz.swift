@testable import Consul

/// A raft database of whatever release, cut or damaged: the answer is state, none or unknown, within a bounded time.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let database = RaftDatabase(RaftFile("raft.db", InputFile(input(data, count))))
  do throws(RaftFileError) {
    let holdsState = try database.holdsState()
    // An entry is state.
    if try database.lastPosition() != nil, !holdsState { fatalError("entries without state") }
  } catch {
    // Unknown.
  }
  return 0
}
