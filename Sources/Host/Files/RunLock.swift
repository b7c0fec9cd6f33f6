internal import Base
internal import Glibc

/// Keeps two runs apart: held until the process ends, however it ends.
package struct RunLock: ~Copyable {
  private let descriptor: Int32

  /// - Parameter name: of the lock's file; a sidecar has its own.
  /// - Throws: `Failure` with status 17 if another run holds it, 14 if the directory cannot be written.
  package init(stateDirectory: String, name: String = "lock") throws {
    do {
      try LocalFileStore().createDirectory(stateDirectory, mode: 0o755, owner: nil)
    } catch let error as FileError {
      throw Failure(
        .configurationRejected, "cannot make the state directory", details: [error.explanation],
        hint: "run as root, or name another directory with --state-dir")
    }
    let path = "\(stateDirectory)/\(name)"
    let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard file >= 0 else {
      throw Failure(
        .configurationRejected, "cannot open the lock", details: ["open \(path): \(errorText(errno))"],
        hint: "run as root, or name another directory with --state-dir")
    }
    guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
      var buffer = [UInt8](repeating: 0, count: 32)
      let count = max(0, pread(file, &buffer, buffer.count, 0))
      close(file)
      let holder = String(decoding: buffer[..<count].prefix { $0 != 10 }, as: UTF8.self)
      throw Failure(
        .anotherRun, "another consul-bootstrap is at work on this machine",
        details: ["process \(holder) holds \(path)"],
        hint: "let it finish, or stop it (kill \(holder)); this run has changed nothing")
    }
    let text = Array("\(getpid())\n".utf8)
    ftruncate(file, 0)
    pwrite(file, text, text.count, 0)
    descriptor = file
  }

  deinit { close(descriptor) }
}
