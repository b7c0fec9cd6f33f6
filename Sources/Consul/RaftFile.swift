internal import Base

/// A regular file of raft's, read by offset: it may be larger than the memory, and an agent may be writing it.
struct RaftFile {
  let path: String
  private let file: any OpenFile

  init(_ path: String, _ file: any OpenFile) { (self.path, self.file) = (path, file) }

  func size() throws(RaftFileError) -> Int64 {
    do { return try file.size() } catch { throw .unreadable(error) }
  }

  /// So many bytes; fewer only at the end of the file.
  func prefix(at offset: Int64, _ count: Int) throws(RaftFileError) -> [UInt8] {
    do { return try file.read(at: offset, count: count) } catch { throw .unreadable(error) }
  }

  /// So many bytes.
  func bytes(at offset: Int64, _ count: Int) throws(RaftFileError) -> [UInt8] {
    let bytes = try prefix(at: offset, count)
    guard bytes.count == count else { throw invalid("ends at byte \(offset.saturatingAdding(Int64(bytes.count)))") }
    return bytes
  }

  func invalid(_ reason: String) -> RaftFileError { .invalid(path: path, reason: reason) }
}

/// Little-endian numbers, as BoltDB on the machines that Consul is built for and raft-wal write them.
extension RandomAccessCollection<UInt8> where Index == Int {
  /// Nil if the bytes are not all there.
  func number<Number: FixedWidthInteger>(_: Number.Type, at offset: Int) -> Number? {
    let size = MemoryLayout<Number>.size
    guard offset >= 0, count >= size, offset <= count - size else { return nil }
    var number: Number = 0
    for index in (0..<size).reversed() {
      number = number << 8 | Number(truncatingIfNeeded: self[startIndex + offset + index])
    }
    return number
  }

  /// Eight bytes at a time: a segment of a write-ahead log has 64 MB of zeros before its first entry.
  var isZero: Bool {
    withContiguousStorageIfAvailable { buffer in
      let bytes = UnsafeRawBufferPointer(buffer)
      let rest = bytes.count % 8
      for index in 0..<rest where bytes[index] != 0 { return false }
      for index in stride(from: rest, to: bytes.count, by: 8)
      where bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self) != 0 {
        return false
      }
      return true
    } ?? allSatisfy { $0 == 0 }
  }
}

/// Raft's directories and files. A path that is not what it should be is an error, never absent.
struct RaftFiles: Sendable {
  private let files: any FileReader & FileOpener

  init(_ files: any FileReader & FileOpener) { self.files = files }

  /// Nil if there is none. Only regular files are opened, and no link is followed: neither a pipe nor a device blocks.
  func open(_ path: String) throws(RaftFileError) -> RaftFile? {
    if try reading({ () throws(FileError) in try files.isLink(path) }) {
      throw .invalid(path: path, reason: "is a symbolic link")
    }
    guard let status = try reading({ () throws(FileError) in try files.status(path) }) else { return nil }
    guard status.kind == .file else { throw .invalid(path: path, reason: "is not a regular file") }
    guard let file = try reading({ () throws(FileError) in try files.open(path, followsLinks: false) }) else {
      throw .changed(path: path)
    }
    return RaftFile(path, file)
  }

  /// False if there is nothing. A directory may be a link to another disk.
  func isDirectory(_ path: String) throws(RaftFileError) -> Bool {
    guard let status = try reading({ () throws(FileError) in try files.status(path) }) else {
      // The disk may not be mounted yet.
      if try reading({ () throws(FileError) in try files.isLink(path) }) {
        throw .invalid(path: path, reason: "is a symbolic link to nothing")
      }
      return false
    }
    guard status.kind == .directory else { throw .invalid(path: path, reason: "is not a directory") }
    return true
  }

  /// The names in a directory; nil if there is none.
  func names(in directory: String) throws(RaftFileError) -> [String]? {
    guard try isDirectory(directory) else { return nil }
    return try reading { () throws(FileError) in try files.list(directory) }
  }

  private func reading<Value>(_ body: () throws(FileError) -> Value) throws(RaftFileError) -> Value {
    do { return try body() } catch { throw .unreadable(error) }
  }
}
