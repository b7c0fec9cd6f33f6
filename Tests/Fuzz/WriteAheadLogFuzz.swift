@testable import Base
@testable import Consul

/// The directory of a write-ahead log: the first 2048 bytes are its database, the rest is its segment.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let bytes = input(data, count)
  let files = LogDirectory(metadata: Array(bytes.prefix(2048)), segment: Array(bytes.dropFirst(2048)))
  do throws(RaftFileError) {
    let holdsState = try WriteAheadLog("wal", RaftFiles(files)).holdsState()
    // Without state all of the segment is zero.
    if !holdsState, !files.segment.isZero { fatalError("entries without state") }
  } catch {
    // Unknown.
  }
  return 0
}

private struct LogDirectory: FileReader, FileOpener {
  let metadata: [UInt8]
  let segment: [UInt8]

  func status(_ path: String) -> FileStatus? {
    FileStatus(kind: path == "wal" ? .directory : .file, size: 1, mode: 0, user: 0, group: 0, device: 1)
  }
  func read(_ path: String, limit: Int) -> [UInt8] { [] }
  func isLink(_ path: String) -> Bool { false }
  func resolvedPath(_ path: String) -> String { path }
  func list(_ directory: String) -> [String] { ["00000000000000000001-0000000000000000.wal", "wal-meta.db"] }
  func open(_ path: String, followsLinks: Bool) -> (any OpenFile)? {
    InputFile(path.hasSuffix("db") ? metadata : segment)
  }
}
