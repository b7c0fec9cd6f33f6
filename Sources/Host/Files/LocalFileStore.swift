package import Base
internal import Glibc

/// The files of this machine.
package struct LocalFileStore: FileStore {
  package init() {}

  package func status(_ path: String) throws(FileError) -> FileStatus? {
    var info = stat()
    guard stat(path, &info) == 0 else {
      if errno == ENOENT || errno == ENOTDIR { return nil }
      throw failure("check", path)
    }
    let kind: FileKind =
      switch info.st_mode & S_IFMT {
      case S_IFREG: .file
      case S_IFDIR: .directory
      default: .other
      }
    return FileStatus(
      kind: kind, size: Int64(info.st_size), mode: info.st_mode & 0o7777, user: info.st_uid, group: info.st_gid,
      device: UInt64(info.st_dev))
  }

  package func isLink(_ path: String) throws(FileError) -> Bool {
    var info = stat()
    guard lstat(path, &info) == 0 else {
      if errno == ENOENT || errno == ENOTDIR { return false }
      throw failure("check", path)
    }
    return info.st_mode & S_IFMT == S_IFLNK
  }

  package func resolvedPath(_ path: String) throws(FileError) -> String {
    guard let resolved = realpath(path, nil) else { throw failure("resolve", path) }
    defer { free(resolved) }
    return String(cString: resolved)
  }

  package func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
    let file = try open(path, O_RDONLY, "read")
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = Glibc.read(file, &buffer, buffer.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw failure("read", path)
      }
      if count == 0 { return bytes }
      guard bytes.count + count <= limit else {
        throw FileError("read", path, errno: EFBIG, reason: "larger than \(limit) bytes")
      }
      bytes += buffer[..<count]
    }
  }

  package func list(_ directory: String) throws(FileError) -> [String] {
    guard let handle = opendir(directory) else { throw failure("list", directory) }
    defer { closedir(handle) }
    var names: [String] = []
    while true {
      // Nil at the end as well as after an error, which alone sets the number (readdir(3)).
      errno = 0
      guard let entry = readdir(handle) else { break }
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    guard errno == 0 else { throw failure("list", directory) }
    return names.sorted()
  }

  package func write(_ path: String, _ bytes: [UInt8], mode: UInt32, owner: FileOwner?) throws(FileError) {
    let directory = parentDirectory(of: path)
    // The same name every time: the next write replaces the file that a killed run left behind.
    let temporary = "\(directory)/.\(path.split(separator: "/").last ?? "file").tmp"
    // Usually there is none; a file that cannot be removed fails the exclusive open.
    unlink(temporary)
    let file = try open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, "write", mode: 0o600)
    do throws(FileError) {
      defer { close(file) }
      var offset = 0
      while offset < bytes.count {
        let count = bytes[offset...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
        if count < 0 {
          if errno == EINTR { continue }
          throw failure("write", path)
        }
        offset += count
      }
      if let owner, fchown(file, owner.user, owner.group) != 0 { throw failure("change the owner of", path) }
      guard fchmod(file, mode) == 0 else { throw failure("change the mode of", path) }
      guard fsync(file) == 0 else { throw failure("write", path) }
      guard Glibc.rename(temporary, path) == 0 else { throw failure("rename a new file to", path) }
    } catch {
      // A file that stays is replaced by the next write; the error that matters is the first.
      unlink(temporary)
      throw error
    }
    try syncDirectory(directory)
  }

  package func createDirectory(_ path: String, mode: UInt32, owner: FileOwner?) throws(FileError) {
    if let status = try status(path) {
      guard status.kind == .directory else {
        throw FileError("create directory", path, errno: ENOTDIR, reason: "there is a file of that name")
      }
      return
    }
    let parent = parentDirectory(of: path)
    if parent != path { try createDirectory(parent, mode: 0o755, owner: nil) }
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else { throw failure("create directory", path) }
    if let owner, chown(path, owner.user, owner.group) != 0 { throw failure("change the owner of", path) }
    guard chmod(path, mode) == 0 else { throw failure("change the mode of", path) }
  }

  package func changeOwner(_ path: String, _ owner: FileOwner) throws(FileError) {
    // A list instead of recursion: the depth of a tree must not exhaust the stack.
    var pending = [path]
    while let path = pending.popLast() {
      var info = stat()
      guard lstat(path, &info) == 0 else { throw failure("check", path) }
      if info.st_uid != owner.user || info.st_gid != owner.group, lchown(path, owner.user, owner.group) != 0 {
        throw failure("change the owner of", path)
      }
      if info.st_mode & S_IFMT == S_IFDIR { pending += try list(path).map { "\(path)/\($0)" } }
    }
  }

  package func rename(_ path: String, to newPath: String) throws(FileError) {
    guard Glibc.rename(path, newPath) == 0 else { throw failure("rename", path) }
    try syncDirectory(parentDirectory(of: newPath))
  }

  package func removeFile(_ path: String) throws(FileError) {
    guard unlink(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
  }

  /// A file that cannot be checked cannot be executed either.
  package func isExecutable(_ path: String) -> Bool {
    access(path, X_OK) == 0
  }

  private func syncDirectory(_ directory: String) throws(FileError) {
    let handle = try open(directory, O_RDONLY | O_DIRECTORY, "open")
    defer { close(handle) }
    // Some file systems cannot sync a directory: EINVAL (fsync(2)).
    guard fsync(handle) == 0 || errno == EINVAL else { throw failure("sync", directory) }
  }

  private func open(_ path: String, _ flags: Int32, _ operation: String, mode: mode_t = 0) throws(FileError) -> Int32 {
    let file = Glibc.open(path, flags | O_CLOEXEC, mode)
    guard file >= 0 else { throw failure(operation, path) }
    return file
  }

  private func failure(_ operation: String, _ path: String) -> FileError {
    FileError(operation, path, number: errno)
  }
}
