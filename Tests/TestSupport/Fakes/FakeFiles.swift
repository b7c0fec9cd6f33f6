package import Base
internal import Foundation

/// A tree of files in memory, with modes, owners, devices and links; what the flow changes is recorded in order.
///
/// It behaves as `LocalFileStore` in Host does: same operations in errors, same errno, inodes that survive a rename.
/// Modes are kept, not enforced (the program runs as root): an error comes from `fail`.
package final class FakeFiles: FileStore {
  /// The calls of the seam, by the operation that their errors name.
  package enum Operation: String, Sendable {
    case status = "check"
    case isLink = "check the link"
    case read, list, open, resolve, write, rename
    case append = "append to"
    case createDirectory = "create directory"
    case changeOwner = "change the owner of"
    case removeFile = "remove"
  }

  /// What the flow changed; what the test sets up is not recorded.
  package enum Change: Sendable, Equatable {
    case write(String, mode: UInt32, owner: String?)
    case append(String)
    case createDirectory(String, mode: UInt32, owner: String?)
    case changeOwner(String, String)
    case rename(String, to: String)
    case removeFile(String)
  }

  struct Fault {
    let operation: Operation
    let path: String?
    let errno: Int32
    var times: Int
  }

  struct State {
    var tree = FakeTree()
    var faults: [Fault] = []
    var changes: [Change] = []
    var openFiles = 0
  }

  let state = Watched(State())
  let now: WallClock

  /// - Parameter now: the time of changes.
  package init(now: @escaping WallClock) { self.now = now }

  package var changes: [Change] { state.value.changes }

  /// Files that are open for reading or appending.
  package var openFileCount: Int { state.value.openFiles }

  /// Waits for a change that matches, from the first on.
  @discardableResult
  package func change(where matches: @escaping @Sendable (Change) -> Bool) async throws -> Change {
    try await state.wait { $0.changes.first(where: matches) }
  }

  /// From now on so many calls on the path fail with this errno.
  /// - Parameter path: as the flow gives it; nil for every path.
  package func fail(_ operation: Operation, _ path: String?, errno: Int32, times: Int = .max) {
    state.update { $0.faults.insert(Fault(operation: operation, path: path, errno: errno, times: times), at: 0) }
  }

  /// Ends what `fail` began.
  package func recover(_ operation: Operation, _ path: String?) {
    state.update { $0.faults.removeAll { $0.operation == operation && $0.path == path } }
  }
}

/// For the test: sets up and reads the tree, past faults and without a record.
extension FakeFiles {
  /// Creates a file, or replaces its contents in place (the inode stays), with missing parents.
  package func put(_ path: String, _ text: String, mode: UInt32 = 0o644, user: UInt32 = 0, group: UInt32 = 0) {
    put(path, bytes: Array(text.utf8), mode: mode, user: user, group: group)
  }

  package func put(_ path: String, bytes: [UInt8], mode: UInt32 = 0o644, user: UInt32 = 0, group: UInt32 = 0) {
    setUp(path) { tree in
      let number: UInt64
      if let found = try tree.lookup(path) {
        number = found
      } else {
        try tree.makeDirectories(tree.parent(of: path))
        number = try tree.add(path, FakeNode(.file(bytes)))
      }
      tree.change(number) { node in
        node.content = .file(bytes)
        (node.mode, node.user, node.group, node.modified) = (mode, user, group, self.now())
      }
    }
  }

  /// Adds to the end of a file, as its writer does.
  package func grow(_ path: String, by text: String) {
    setUp(path) { tree in
      guard let number = try tree.lookup(path), case .file(let bytes) = tree.node(number).content else {
        throw Errno(2)
      }
      tree.change(number) { node in
        node.content = .file(bytes + Array(text.utf8))
        node.modified = self.now()
      }
    }
  }

  /// Cuts a file, as `copytruncate` does.
  package func truncate(_ path: String, to size: Int = 0) {
    setUp(path) { tree in
      guard let number = try tree.lookup(path), case .file(let bytes) = tree.node(number).content else {
        throw Errno(2)
      }
      tree.change(number) { node in
        node.content = .file(Array(bytes.prefix(size)))
        node.modified = self.now()
      }
    }
  }

  package func makeDirectory(
    _ path: String, mode: UInt32 = 0o755, user: UInt32 = 0, group: UInt32 = 0, device: UInt64? = nil
  ) {
    setUp(path) { tree in
      try tree.makeDirectories(path)
      guard let number = try tree.lookup(path) else { throw Errno(2) }
      tree.change(number) { node in
        (node.mode, node.user, node.group) = (mode, user, group)
        node.device = device ?? node.device
      }
    }
  }

  /// A symbolic link.
  package func link(_ path: String, to target: String) {
    setUp(path) { tree in
      try tree.makeDirectories(tree.parent(of: path))
      _ = try tree.add(path, FakeNode(.link(target)))
    }
  }

  /// A socket, a pipe or a device.
  package func makeOther(_ path: String) {
    setUp(path) { tree in
      try tree.makeDirectories(tree.parent(of: path))
      _ = try tree.add(path, FakeNode(.other))
    }
  }

  /// As another process does it.
  package func move(_ path: String, to newPath: String) { setUp(path) { try $0.rename(path, to: newPath) } }

  /// As another process does it; a directory with everything in it.
  package func delete(_ path: String) { setUp(path) { try $0.remove(path) } }

  package func setModified(_ path: String, _ time: Timestamp) {
    setUp(path) { tree in
      guard let number = try tree.lookup(path) else { throw Errno(2) }
      tree.change(number) { $0.modified = time }
    }
  }

  /// The contents of a file as text; nil if there is none.
  package func text(_ path: String) -> String? { bytes(path).map { String(decoding: $0, as: UTF8.self) } }

  package func bytes(_ path: String) -> [UInt8]? {
    let tree = state.value.tree
    guard let number = try? tree.lookup(path), case .file(let bytes) = tree.node(number).content else { return nil }
    return bytes
  }

  package func exists(_ path: String) -> Bool { (try? state.value.tree.lookup(path, followsLast: false)) ?? nil != nil }

  private func setUp(_ path: String, _ change: (inout FakeTree) throws -> Void) {
    do { try state.update { try change(&$0.tree) } } catch { fatalError("cannot set up \(path): \(error)") }
  }
}

/// The seam.
extension FakeFiles {
  package func status(_ path: String) throws(FileError) -> FileStatus? {
    try perform(.status, path) { state in
      do {
        guard let number = try state.tree.lookup(path) else { return nil }
        return state.tree.status(number)
      } catch let error as Errno where error.number == 20 {
        return nil
      }
    }
  }

  package func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
    try perform(.read, path) { state in
      guard let number = try state.tree.lookup(path) else { throw Errno(2) }
      switch state.tree.node(number).content {
      case .file(let bytes):
        guard bytes.count <= limit else { throw Errno(27, "larger than \(limit) bytes") }
        return bytes
      case .directory: throw Errno(21)
      case .link, .other: throw Errno(22)
      }
    }
  }

  package func isLink(_ path: String) throws(FileError) -> Bool {
    try perform(.isLink, path) { state in
      do {
        guard let number = try state.tree.lookup(path, followsLast: false) else { return false }
        if case .link = state.tree.node(number).content { return true }
        return false
      } catch let error as Errno where error.number == 20 {
        return false
      }
    }
  }

  package func resolvedPath(_ path: String) throws(FileError) -> String {
    try perform(.resolve, path) { try $0.tree.resolved(path) }
  }

  package func list(_ directory: String) throws(FileError) -> [String] {
    try perform(.list, directory) { state in
      guard let number = try state.tree.lookup(directory) else { throw Errno(2) }
      guard case .directory(let entries) = state.tree.node(number).content else { throw Errno(20) }
      return entries.keys.sorted()
    }
  }

  package func open(_ path: String, followsLinks: Bool) throws(FileError) -> (any OpenFile)? {
    let number: UInt64? = try perform(.open, path) { state in
      do {
        guard let number = try state.tree.lookup(path, followsLast: followsLinks) else { return nil }
        switch state.tree.node(number).content {
        case .file: return number
        case .link: throw Errno(40)
        case .directory, .other: return nil
        }
      } catch let error as Errno where error.number == 20 {
        return nil
      }
    }
    return number.map { FakeOpenFile(self, path, $0) }
  }

  package func append(to path: String) throws(FileError) -> any AppendFile {
    let number: UInt64 = try perform(.append, path) { state in
      guard let number = try state.tree.lookup(path, followsLast: false) else {
        return try state.tree.add(path, FakeNode(.file([]), mode: 0o640, modified: self.now()))
      }
      switch state.tree.node(number).content {
      case .file: return number
      case .link: throw Errno(40)
      case .directory: throw Errno(21)
      case .other: throw Errno(6)
      }
    }
    return FakeAppendFile(self, path, number)
  }

  package func write(_ path: String, _ bytes: [UInt8], mode: UInt32, owner: FileOwner?) throws(FileError) {
    try perform(.write, path) { state in
      let node = FakeNode(
        .file(bytes), mode: mode, user: owner?.user ?? 0, group: owner?.group ?? 0, modified: self.now())
      if let number = try state.tree.lookup(path, followsLast: false),
        case .directory = state.tree.node(number).content
      {
        throw Errno(21)
      }
      _ = try state.tree.add(path, node)
      state.changes.append(.write(path, mode: mode, owner: owner?.userName))
    }
  }

  package func createDirectory(_ path: String, mode: UInt32, owner: FileOwner?) throws(FileError) {
    try perform(.createDirectory, path) { state in
      if let number = try state.tree.lookup(path) {
        guard case .directory = state.tree.node(number).content else { throw Errno(20, "a file is in the way") }
        return
      }
      try state.tree.makeDirectories(path)
      guard let number = try state.tree.lookup(path) else { throw Errno(2) }
      state.tree.change(number) { node in
        (node.mode, node.user, node.group) = (mode, owner?.user ?? 0, owner?.group ?? 0)
      }
      state.changes.append(.createDirectory(path, mode: mode, owner: owner?.userName))
    }
  }

  package func changeOwner(_ path: String, _ owner: FileOwner) throws(FileError) {
    try perform(.changeOwner, path) { state in
      guard let number = try state.tree.lookup(path, followsLast: false) else { throw Errno(2) }
      state.tree.changeAll(number) { ($0.user, $0.group) = (owner.user, owner.group) }
      state.changes.append(.changeOwner(path, owner.userName))
    }
  }

  package func rename(_ path: String, to newPath: String) throws(FileError) {
    try perform(.rename, path) { state in
      try state.tree.rename(path, to: newPath)
      state.changes.append(.rename(path, to: newPath))
    }
  }

  package func removeFile(_ path: String) throws(FileError) {
    try perform(.removeFile, path) { state in
      guard let number = try state.tree.lookup(path, followsLast: false) else { return }
      if case .directory = state.tree.node(number).content { throw Errno(21) }
      try state.tree.remove(path)
      state.changes.append(.removeFile(path))
    }
  }

  package func isExecutable(_ path: String) -> Bool {
    let tree = state.value.tree
    guard let number = try? tree.lookup(path) else { return false }
    return tree.node(number).mode & 0o111 != 0
  }

  /// Fails if a fault is set up; turns an errno of the tree into the seam's error.
  func perform<Result: Sendable>(
    _ operation: Operation, _ path: String, _ body: (inout State) throws -> Result
  ) throws(FileError) -> Result {
    do {
      return try state.update { state in
        let found = state.faults.firstIndex {
          $0.operation == operation && $0.times > 0 && ($0.path == nil || $0.path == path)
        }
        if let found {
          if state.faults[found].times < .max { state.faults[found].times -= 1 }
          throw Errno(state.faults[found].errno)
        }
        return try body(&state)
      }
    } catch let error as Errno {
      throw FileError(operation.rawValue, path, errno: error.number, reason: error.reason)
    } catch {
      fatalError("the fake's tree threw \(error)")
    }
  }
}
