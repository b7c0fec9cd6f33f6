package import Base
internal import Glibc

/// Locks by flock(2): held until they are released or the process ends, however it ends.
package struct FileLocks: LockStore {
  package init() {}

  package func lock(directory: String, name: String) throws(LockError) -> any HeldLock {
    do {
      try LocalFileStore().createDirectory(directory, mode: 0o755, owner: nil)
    } catch {
      throw .unavailable(error)
    }
    return try FileLock(path: "\(directory)/\(name)")
  }
}

private final class FileLock: HeldLock {
  private let file: Descriptor

  init(path: String) throws(LockError) {
    let number = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard number >= 0 else { throw .unavailable(FileError("open", path, number: errno)) }
    file = Descriptor(number)
    while flock(number, LOCK_EX | LOCK_NB) != 0 {
      if errno == EINTR { continue }
      guard errno == EWOULDBLOCK else { throw .unavailable(FileError("lock", path, number: errno)) }
      var buffer = [UInt8](repeating: 0, count: 32)
      let count = max(0, pread(number, &buffer, buffer.count, 0))
      let holder = String(decoding: buffer[..<count].prefix { $0 != 10 }, as: UTF8.self)
      throw .held(path: path, holder: holder.isEmpty ? nil : holder)
    }
    // For the message of the process that finds the lock held; without it the lock holds all the same.
    let text = Array("\(getpid())\n".utf8)
    if ftruncate(number, 0) == 0 { _ = pwrite(number, text, text.count, 0) }
  }

  /// Closing is not enough: a child between its fork and its exec holds the same open file, and with it the lock.
  /// Fails for a descriptor without a lock only.
  deinit { flock(file.number, LOCK_UN) }
}
