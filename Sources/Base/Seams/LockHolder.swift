extension FileStore {
  /// The process that holds a lock by flock(2), as the kernel lists it (`/proc/locks`, proc(5)): the id of a process
  /// that has ended, or what its file says, proves nothing. Takes no lock itself, so that it never makes a holder-to-be
  /// fail.
  /// - Returns: nil if no process holds it, or if the kernel does not list it for this process.
  package func holder(ofLock path: String) throws(FileError) -> Int32? {
    guard let inode = try open(path)?.identity.inode, let list = try readIfPresent("/proc/locks") else { return nil }
    return lockHolder(inode: inode, in: String(decoding: list, as: UTF8.self))
  }
}

/// Lines are `1: FLOCK  ADVISORY  WRITE 4711 fe:00:6989620 0 EOF`; one that waits has `->` behind the number. The file
/// system's number is not compared: overlays show another one than stat(2).
func lockHolder(inode: UInt64, in list: String) -> Int32? {
  for line in list.split(separator: "\n") {
    let words = line.split(separator: " ")
    guard words.count >= 6, words[1] == "FLOCK", words[3] == "WRITE",
      words[5].split(separator: ":").last.flatMap({ UInt64($0) }) == inode, let pid = Int32(words[4]), pid > 0
    else { continue }
    return pid
  }
  return nil
}
