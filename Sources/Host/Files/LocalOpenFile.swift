package import Base
internal import Glibc

/// A descriptor of ours.
final class LocalOpenFile: OpenFile {
  let identity: FileIdentity
  private let path: String
  private let descriptor: Int32

  /// Nil if there is no regular file. Throws `FileError`.
  init?(_ path: String) throws {
    // Not to wait for a writer, should it be a pipe.
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard file >= 0 else {
      let number = errno
      if number == ENOENT || number == ENOTDIR { return nil }
      throw FileError("open", path, errno: number, reason: errorText(number))
    }
    var info = stat()
    guard fstat(file, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
      close(file)
      return nil
    }
    self.path = path
    descriptor = file
    identity = FileIdentity(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
  }

  deinit { close(descriptor) }

  func size() throws -> Int64 { try Int64(status().st_size) }

  func modified() throws -> Int64 {
    let time = try status().st_mtim
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
  }

  func read(at offset: Int64, count: Int) throws -> [UInt8] {
    while true {
      var got = 0
      let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        got = pread(descriptor, buffer.baseAddress, count, off_t(offset))
        initialized = max(0, got)
      }
      if got >= 0 { return bytes }
      guard errno == EINTR else { throw failure("read") }
    }
  }

  private func status() throws -> stat {
    var info = stat()
    guard fstat(descriptor, &info) == 0 else { throw failure("look at") }
    return info
  }

  private func failure(_ operation: String) -> FileError {
    let number = errno
    return FileError(operation, path, errno: number, reason: errorText(number))
  }
}

/// A file that is open for appending, by its descriptor.
final class LocalAppendFile: AppendFile {
  private let path: String
  private let descriptor: Int32

  init(_ path: String) throws {
    let file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0o640)
    guard file >= 0 else {
      let number = errno
      throw FileError("append to", path, errno: number, reason: errorText(number))
    }
    self.path = path
    descriptor = file
  }

  deinit { close(descriptor) }

  func append(_ bytes: ArraySlice<UInt8>) throws {
    var rest = bytes
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let number = errno
        throw FileError("append to", path, errno: number, reason: errorText(number))
      }
      rest = rest.dropFirst(count)
    }
  }

  func isCurrent() -> Bool {
    var ours = stat(), named = stat()
    return fstat(descriptor, &ours) == 0 && lstat(path, &named) == 0 && ours.st_ino == named.st_ino
      && ours.st_dev == named.st_dev
  }

  /// Gives the file the name `.1`, unless another process has just done so; nil if that fails.
  func rotated() -> LocalAppendFile? {
    guard flock(descriptor, LOCK_EX) == 0 else { return nil }
    defer { flock(descriptor, LOCK_UN) }
    if isCurrent() { rename(path, path + ".1") }
    return try? LocalAppendFile(path)
  }

  func size() throws -> Int64 {
    var info = stat()
    guard fstat(descriptor, &info) == 0 else {
      let number = errno
      throw FileError("look at", path, errno: number, reason: errorText(number))
    }
    return Int64(info.st_size)
  }
}

extension LocalFileStore {
  package func append(to path: String) throws -> any AppendFile { try LocalAppendFile(path) }

  package func open(_ path: String) throws -> (any OpenFile)? { try LocalOpenFile(path) }
}
