package import Base
internal import Glibc

/// A file that is open for reading.
final class LocalOpenFile: OpenFile {
  let identity: FileIdentity
  private let path: String
  private let file: Descriptor

  /// Nil if there is no regular file. Throws `FileError`.
  init?(_ path: String, followsLinks: Bool) throws(FileError) {
    // Non-blocking: the open of a named pipe would wait for a writer.
    let number = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (followsLinks ? 0 : O_NOFOLLOW))
    guard number >= 0 else {
      if errno == ENOENT || errno == ENOTDIR { return nil }
      throw FileError("open", path, number: errno)
    }
    let file = Descriptor(number)
    var info = stat()
    guard fstat(number, &info) == 0 else { throw FileError("check", path, number: errno) }
    guard info.st_mode & S_IFMT == S_IFREG else { return nil }
    self.path = path
    self.file = file
    identity = FileIdentity(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
  }

  func size() throws(FileError) -> Int64 { try Int64(status().st_size) }

  func modified() throws(FileError) -> Int64 { try status().st_mtim.milliseconds }

  func read(at offset: Int64, count: Int) throws(FileError) -> [UInt8] {
    while true {
      var got = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        got = pread(file.number, buffer.baseAddress, count, off_t(offset))
        initialized = max(0, got)
      }
      if got >= 0 { return bytes }
      guard errno == EINTR else { throw FileError("read", path, number: errno) }
    }
  }

  private func status() throws(FileError) -> stat {
    var info = stat()
    guard fstat(file.number, &info) == 0 else { throw FileError("check", path, number: errno) }
    return info
  }
}

/// A file that is open for appending.
final class LocalAppendFile: AppendFile {
  private let path: String
  private let file: Descriptor

  /// Creates the file if it is missing. Throws `FileError`.
  init(_ path: String) throws(FileError) {
    let number = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0o640)
    guard number >= 0 else { throw FileError("append to", path, number: errno) }
    self.path = path
    file = Descriptor(number)
  }

  func append(_ bytes: ArraySlice<UInt8>) throws(FileError) {
    var rest = bytes
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(file.number, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw FileError("append to", path, number: errno) }
      rest = rest.dropFirst(count)
    }
  }

  /// A name that cannot be checked does not count as current: the next open reports the reason.
  func isCurrent() -> Bool {
    var own = stat(), named = stat()
    return fstat(file.number, &own) == 0 && lstat(path, &named) == 0 && own.st_ino == named.st_ino
      && own.st_dev == named.st_dev
  }

  /// Renames the file to `.1`, unless another process has just done so, and opens a new one. Throws `FileError`.
  func rotated() throws(FileError) -> LocalAppendFile {
    while flock(file.number, LOCK_EX) != 0 {
      guard errno == EINTR else { throw FileError("lock", path, number: errno) }
    }
    // Fails for a descriptor without a lock only; the lock ends with the descriptor in any case.
    defer { flock(file.number, LOCK_UN) }
    if isCurrent(), rename(path, path + ".1") != 0 { throw FileError("rename", path, number: errno) }
    return try LocalAppendFile(path)
  }

  func size() throws(FileError) -> Int64 {
    var info = stat()
    guard fstat(file.number, &info) == 0 else { throw FileError("check", path, number: errno) }
    return Int64(info.st_size)
  }
}

extension LocalFileStore {
  package func append(to path: String) throws(FileError) -> any AppendFile { try LocalAppendFile(path) }

  package func open(_ path: String, followsLinks: Bool) throws(FileError) -> (any OpenFile)? {
    try LocalOpenFile(path, followsLinks: followsLinks)
  }
}

extension FileError {
  /// The reason in the C library's words.
  init(_ operation: String, _ path: String, number: Int32) {
    self.init(operation, path, errno: number, reason: errorText(number))
  }
}

extension timespec {
  /// Saturating: a file may bear any time.
  var milliseconds: Int64 {
    Int64(tv_sec).saturatingMultiplied(by: 1000).saturatingAdding(Int64(tv_nsec) / 1_000_000)
  }
}
