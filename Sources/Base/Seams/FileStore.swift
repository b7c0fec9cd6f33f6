/// A user and group by number, with the names for people.
package struct FileOwner: Sendable, Equatable {
  package let user: UInt32
  package let group: UInt32
  package let userName: String
  package let groupName: String

  package init(user: UInt32, group: UInt32, userName: String, groupName: String) {
    self.user = user
    self.group = group
    self.userName = userName
    self.groupName = groupName
  }
}

package enum FileKind: Sendable, Equatable { case file, directory, other }

package struct FileStatus: Sendable, Equatable {
  package let kind: FileKind
  package let size: Int64
  /// Permission bits only.
  package let mode: UInt32
  package let user: UInt32
  package let group: UInt32
  /// The file system that it lies on.
  package let device: UInt64

  package init(kind: FileKind, size: Int64, mode: UInt32, user: UInt32, group: UInt32, device: UInt64) {
    self.kind = kind
    self.size = size
    self.mode = mode
    self.user = user
    self.group = group
    self.device = device
  }
}

/// A system call on a path that failed.
package struct FileError: ExplainedError, Sendable, Equatable {
  package let operation: String
  package let path: String
  package let errno: Int32
  /// The C library's words for `errno`.
  package let reason: String

  package init(_ operation: String, _ path: String, errno: Int32, reason: String) {
    self.operation = operation
    self.path = path
    self.errno = errno
    self.reason = reason
  }

  package var explanation: String { "\(operation) \(path): \(reason)" }
  package var isNotFound: Bool { errno == 2 || errno == 20 }
  package var isPermissionDenied: Bool { errno == 13 || errno == 1 }
}

/// The machine's files, for reading. The real one is `LocalFileStore` in Host.
package protocol FileReader: Sendable {
  /// Nil if there is nothing at the path. Follows symbolic links.
  func status(_ path: String) throws(FileError) -> FileStatus?
  /// The whole file; more than `limit` bytes is an error (EFBIG).
  func read(_ path: String, limit: Int) throws(FileError) -> [UInt8]
  /// Whether the path itself is a symbolic link.
  func isLink(_ path: String) throws(FileError) -> Bool
  /// The path of the same file without symbolic links.
  func resolvedPath(_ path: String) throws(FileError) -> String
  /// Names in a directory, sorted, without `.` and `..`.
  func list(_ directory: String) throws(FileError) -> [String]
}

extension FileReader {
  /// Nil if there is no such file.
  package func readIfPresent(_ path: String, limit: Int = 1 << 20) throws(FileError) -> [UInt8]? {
    do {
      return try read(path, limit: limit)
    } catch {
      if error.isNotFound { return nil }
      throw error
    }
  }
}

/// What a file is, whatever its name.
package struct FileIdentity: Sendable, Hashable {
  package let device: UInt64
  package let inode: UInt64

  package init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }
}

/// A file that is open for reading, even after another file has taken its name. Closed when it is released.
package protocol OpenFile: Sendable {
  var identity: FileIdentity { get }
  func size() throws(FileError) -> Int64
  /// Milliseconds since 1970 of the last change.
  func modified() throws(FileError) -> Int64
  /// At most so many bytes; none at the end of the file.
  func read(at offset: Int64, count: Int) throws(FileError) -> [UInt8]
}

/// Opens files that other processes write or rename. The real one is `LocalFileStore` in Host.
package protocol FileOpener: Sendable {
  /// Nil if there is no regular file at the path. Never blocks.
  /// - Parameter followsLinks: whether the path may be a symbolic link; without, a link is an error (ELOOP).
  func open(_ path: String, followsLinks: Bool) throws(FileError) -> (any OpenFile)?
  /// Names in a directory, sorted, without `.` and `..`.
  func list(_ directory: String) throws(FileError) -> [String]
}

extension FileOpener {
  /// Follows symbolic links.
  package func open(_ path: String) throws(FileError) -> (any OpenFile)? { try open(path, followsLinks: true) }
}

/// A file that grows at its end; other processes may append to it, too. Closed when it is released.
package protocol AppendFile: Sendable {
  /// All of the bytes, in one write where the system can.
  func append(_ bytes: ArraySlice<UInt8>) throws(FileError)
  /// Whether the path that it was opened by still names it, and its size.
  func isCurrent() -> Bool
  func size() throws(FileError) -> Int64
}

/// The machine's files, for reading and writing.
package protocol FileStore: FileReader, FileOpener {
  /// Makes the file, mode 0640, if it is not there. Follows no symbolic link.
  func append(to path: String) throws(FileError) -> any AppendFile
  /// Whole or not at all: temp file in the same directory, fsync, rename, fsync of the directory.
  func write(_ path: String, _ bytes: [UInt8], mode: UInt32, owner: FileOwner?) throws(FileError)
  /// With its missing parents; an existing directory keeps its mode and owner.
  func createDirectory(_ path: String, mode: UInt32, owner: FileOwner?) throws(FileError)
  /// Gives a path and everything under it to the owner; follows no symbolic link.
  func changeOwner(_ path: String, _ owner: FileOwner) throws(FileError)
  func rename(_ path: String, to newPath: String) throws(FileError)
  func removeFile(_ path: String) throws(FileError)
  /// Whether this process may execute the file.
  func isExecutable(_ path: String) -> Bool
}
