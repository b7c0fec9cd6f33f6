internal import Base

/// A file that stays open whatever becomes of its name.
final class FakeOpenFile: OpenFile {
  let identity: FileIdentity
  private let files: FakeFiles
  private let path: String
  private let number: UInt64

  init(_ files: FakeFiles, _ path: String, _ number: UInt64) {
    (self.files, self.path, self.number) = (files, path, number)
    identity = files.identity(number)
    files.count(opened: 1)
  }

  deinit { files.count(opened: -1) }

  func size() throws(FileError) -> Int64 { try Int64(files.contents(number, .status, path).bytes.count) }

  func modified() throws(FileError) -> Int64 { try files.contents(number, .status, path).modified.milliseconds }

  func read(at offset: Int64, count: Int) throws(FileError) -> [UInt8] {
    let bytes = try files.contents(number, .read, path).bytes
    guard let start = Int(exactly: offset), (0..<bytes.count).contains(start) else { return [] }
    return Array(bytes[start...].prefix(count))
  }
}

final class FakeAppendFile: AppendFile {
  private let files: FakeFiles
  private let path: String
  private let number: UInt64

  init(_ files: FakeFiles, _ path: String, _ number: UInt64) {
    (self.files, self.path, self.number) = (files, path, number)
    files.count(opened: 1)
  }

  deinit { files.count(opened: -1) }

  func append(_ bytes: ArraySlice<UInt8>) throws(FileError) { try files.append(bytes, to: number, path) }

  func isCurrent() -> Bool { files.names(path, number) }

  func size() throws(FileError) -> Int64 { try Int64(files.contents(number, .status, path).bytes.count) }
}

/// What open files need of the tree.
extension FakeFiles {
  func count(opened: Int) { state.update { $0.openFiles += opened } }

  func identity(_ number: UInt64) -> FileIdentity {
    FileIdentity(device: state.value.tree.node(number).device, inode: number)
  }

  func names(_ path: String, _ number: UInt64) -> Bool {
    (try? state.value.tree.lookup(path, followsLast: false)) == number
  }

  func contents(
    _ number: UInt64, _ operation: Operation, _ path: String
  ) throws(FileError) -> (bytes: [UInt8], modified: Timestamp) {
    try perform(operation, path) { state in
      let node = state.tree.node(number)
      guard case .file(let bytes) = node.content else { return ([], node.modified) }
      return (bytes, node.modified)
    }
  }

  func append(_ bytes: ArraySlice<UInt8>, to number: UInt64, _ path: String) throws(FileError) {
    try perform(.append, path) { state in
      guard case .file(let before) = state.tree.node(number).content else { throw Errno(21) }
      state.tree.change(number) { node in
        node.content = .file(before + bytes)
        node.modified = self.now()
      }
      state.changes.append(.append(path))
    }
  }
}
