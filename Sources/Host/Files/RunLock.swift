package import Base
internal import Glibc

/// Keeps two runs apart: held until it is released or the process ends, however it ends.
package struct RunLock: ~Copyable {
  private let file: Descriptor

  /// - Parameters:
  ///   - stateDirectory: created if it is missing.
  ///   - name: of the lock's file; a sidecar has its own.
  package init(stateDirectory: String, name: String = "lock") throws(RunLockError) {
    do {
      try LocalFileStore().createDirectory(stateDirectory, mode: 0o755, owner: nil)
    } catch let error as FileError {
      throw .cannotCreateDirectory(error)
    } catch {
      throw .cannotCreateDirectory(FileError("create directory", stateDirectory, errno: EIO, reason: error.explained))
    }
    let path = "\(stateDirectory)/\(name)"
    let number = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard number >= 0 else { throw .cannotOpen(FileError("open", path, number: errno)) }
    let file = Descriptor(number)
    while flock(number, LOCK_EX | LOCK_NB) != 0 {
      switch errno {
      case EINTR: continue
      case EWOULDBLOCK: throw .held(path: path, by: Self.holder(number))
      default: throw .cannotOpen(FileError("lock", path, number: errno))
      }
    }
    // A full disk may keep the number out of the file. The lock is held all the same; only the message of another run
    // then lacks the number.
    let text = Array("\(getpid())\n".utf8)
    if ftruncate(number, 0) == 0 { _ = pwrite(number, text, text.count, 0) }
    self.file = file
  }

  /// Nil if the file holds no process ID (yet): its holder writes it after it has locked the file.
  private static func holder(_ file: Int32) -> Int32? {
    var buffer = [UInt8](repeating: 0, count: 32)
    let count = max(0, pread(file, &buffer, buffer.count, 0))
    return Int32(String(decoding: buffer[..<count].prefix { $0 != 10 }, as: UTF8.self))
  }
}

/// Why a run does not hold its lock.
package enum RunLockError: ExplainedError, Equatable {
  case cannotCreateDirectory(FileError)
  case cannotOpen(FileError)
  /// By another process; nil if it has not written its process ID.
  case held(path: String, by: Int32?)

  package var explanation: String {
    switch self {
    case .cannotCreateDirectory(let error), .cannotOpen(let error): error.explanation
    case .held(let path, let process?): "process \(process) holds \(path)"
    case .held(let path, nil): "another process holds \(path)"
    }
  }
}
