package import Base

/// How far a file has been read. It names the file by identity, since its path may change.
package struct FilePosition: Sendable, Equatable {
  package let identity: FileIdentity
  package let offset: Int64
  /// When this position was reached, in milliseconds since 1970: later changes have not been read.
  package let time: Int64
  /// Of the bytes before the offset: it differs where the inode was reused, or the file was truncated and has grown
  /// again.
  package let fingerprint: UInt64

  package init(identity: FileIdentity, offset: Int64, time: Int64, fingerprint: UInt64) {
    self.identity = identity
    self.offset = offset
    self.time = time
    self.fingerprint = fingerprint
  }
}

/// Follows one path through its rotations: renamed and created again, copied and truncated, compressed. Every line
/// once, in order.
///
/// Lines written between a copy and its truncation are lost by that kind of rotation itself (logrotate(8),
/// copytruncate).
package struct FileTail: Sendable {
  /// What happened to the path, for the log.
  package enum Event: Sendable, Equatable {
    case rotated
    case truncated(copyFound: Bool)
    /// The file of the checkpoint is gone, and its unread rest with it.
    case lostRest(of: FilePosition)
    /// Rotated more often than files can be held open: this many bytes of the oldest were not read.
    case dropped(bytes: Int64)
  }

  private let path: String
  private let opener: any FileOpener
  private let limit: Int
  private var current: TailedFile?
  /// Rotated files that are read to their ends before `current` is; the oldest first.
  private var pending: [TailedFile] = []
  /// Rotated files that were read to their ends, with the scans left until each is closed: a program writes to a
  /// renamed file until it opens its log again.
  private var draining: [(file: TailedFile, scans: Int)] = []
  /// The last files that were read to their ends: two files may have changed at the same tick of the kernel's clock.
  private var finished: [FileIdentity] = []
  /// Events of scans since the last read.
  private var unreported: [Event] = []
  /// From the checkpoint, until the first scan that finds a file.
  private var start: FilePosition?

  /// - Parameters:
  ///   - start: of the last checkpoint; nil: the beginning of the file.
  ///   - limit: of a line, see `LineSplitter`.
  package init(path: String, start: FilePosition?, opener: any FileOpener, limit: Int = LineSplitter.longestEvent) {
    self.path = path
    self.start = start
    self.opener = opener
    self.limit = limit
  }

  /// Files that are held open while the service is away; each occupies disk space that only closing it frees.
  private static let maximumPending = 64
  /// About 10 seconds: longer than a program takes to open its log again after the signal that follows a rotation.
  private static let drainingScans = 50
  /// Attempts to list the rotated files while a rotation is under way; it renames a few files within a millisecond.
  private static let listings = 20

  /// The next lines; none if nothing is new. Lines that were written to a rotated file after its successor was read are
  /// no position to resume from: their chunk has no checkpoints.
  /// - Parameters:
  ///   - count: bytes, at most.
  ///   - time: now, in milliseconds since 1970.
  /// - Throws: `FileError`.
  package mutating func read(_ count: Int = 256 << 10, time: Int64) throws -> (chunk: LineChunk, events: [Event]) {
    var events = unreported
    unreported = []
    try scan(&events)
    let late = try readDraining(count)
    if !late.isEmpty { return (late, events) }
    while !pending.isEmpty {
      let chunk = try pending[0].read(count, time: time)
      if !chunk.isEmpty { return (chunk, events) }
      let file = pending.removeFirst()
      finished = finished.suffix(15) + [file.identity]
      draining.append((file, Self.drainingScans))
    }
    return (try current?.read(count, time: time) ?? LineChunk(), events)
  }

  private mutating func readDraining(_ count: Int) throws -> LineChunk {
    for index in draining.indices {
      let chunk = try draining[index].file.read(count, time: nil)
      if !chunk.isEmpty { return chunk }
      if draining[index].scans <= 0 {
        var last = draining.remove(at: index).file
        return last.finish()
      }
    }
    return LineChunk()
  }

  /// The beginning of the file that is at the path now; nil if there is none. Saved before anything of the file is
  /// sent: without it, a file that is rotated before the first acknowledgement is not found after a restart. Throws
  /// `FileError`.
  package func initialPosition(time: Int64) throws -> FilePosition? {
    try opener.open(path).map {
      FilePosition(identity: $0.identity, offset: 0, time: time, fingerprint: try Fingerprint.of($0, before: 0))
    }
  }

  /// Bytes of all known files that are not read yet. Throws `FileError`.
  package func unreadBytes() throws -> Int64 {
    // Sparse files may claim any size.
    try (pending + (current.map { [$0] } ?? [])).reduce(0) { $0.saturatingAdding(try $1.unreadBytes()) }
  }

  /// No file has been found yet.
  var isWaiting: Bool { current == nil && pending.isEmpty && draining.isEmpty }

  /// Detects a rotation of the path and opens the rotated files. If it is called often, files that are compressed or
  /// removed before they are read stay readable. Throws `FileError`.
  package mutating func scanForRotation() throws {
    var events: [Event] = []
    defer { unreported += events }
    try scan(&events)
  }

  private mutating func scan(_ events: inout [Event]) throws {
    do { try detectRotation(&events) } catch is RotationUnderWay {}
    while pending.count > Self.maximumPending {
      events.append(.dropped(bytes: try pending.removeFirst().unreadBytes()))
    }
  }

  /// Changes nothing if it throws.
  private mutating func detectRotation(_ events: inout [Event]) throws {
    for index in draining.indices { draining[index].scans -= 1 }
    let present = try opener.open(path)
    guard let known = current else {
      if let present {
        try open(present, &events)
      } else if let start, try resumeRotated(from: start, except: start.identity) {
        // No new file at the path yet.
        self.start = nil
        current = pending.popLast()
        events.append(.rotated)
      }
      return
    }
    if let present, present.identity == known.identity {
      let time = try present.modified()
      if try known.isContained(in: present) {
        // Written, copied and truncated again since the last scan: no read bytes are left to recognize the copy by.
        if known.offset == 0, time != known.modified, try present.size() == 0 {
          pending += try rotated(since: known.modified, except: present.identity)
        }
        try current?.update(present, modified: time)
        return
      }
      // Truncated: the unread rest is in the copy, if there is one.
      let copy = try copy(of: known)
      let others = try copy.map { try rotated(after: $0.file, except: present.identity) } ?? []
      let fresh = try TailedFile(present, offset: 0, limit: limit)
      pending += (copy.map { [$0] } ?? []) + others
      current = fresh
      events.append(.truncated(copyFound: copy != nil))
    } else if let present {
      let others = try rotated(after: known.file, except: present.identity),
        fresh = try TailedFile(present, offset: 0, limit: limit)
      pending += [known] + others
      current = fresh
      events.append(.rotated)
    } else {
      // Renamed, perhaps more than once, and no new file at the path yet.
      let others = try rotated(after: known.file, except: known.identity)
      guard !others.isEmpty else { return }
      // The newest was at the path last: rotations continue from there.
      pending += [known] + others.dropLast()
      current = others.last
      events.append(.rotated)
    }
  }

  /// The first scan that finds a file: resumes at the checkpoint.
  private mutating func open(_ present: any OpenFile, _ events: inout [Event]) throws {
    let fresh = try TailedFile(present, offset: 0, limit: limit)
    guard let start else {
      current = fresh
      return
    }
    if start.offset == 0, present.identity == start.identity {
      // No bytes to recognize the contents by: files copied since then are its former contents.
      pending = try rotated().filter { try $0.modified() > start.time }.map {
        try TailedFile($0, offset: 0, limit: limit)
      }
      current = fresh
    } else if present.identity == start.identity, try Self.matches(present, start) {
      current = try TailedFile(present, offset: start.offset, limit: limit)
    } else {
      // Rotated while no scan took place: the file, or its copy, has another name now.
      events.append(try resumeRotated(from: start, except: present.identity) ? .rotated : .lostRest(of: start))
      current = fresh
    }
    self.start = nil
  }

  /// Finds the file of a checkpoint among the rotated ones.
  /// - Returns: false if it is gone.
  private mutating func resumeRotated(from start: FilePosition, except identity: FileIdentity) throws -> Bool {
    let others = try rotated()
    guard
      let same = try others.first(where: { try $0.identity == start.identity && Self.matches($0, start) })
        ?? others.first(where: { try start.offset > 0 && Self.matches($0, start) })
    else { return false }
    pending = try [TailedFile(same, offset: start.offset, limit: limit)] + rotated(after: same, except: identity)
    return true
  }

  private static func matches(_ file: any OpenFile, _ position: FilePosition) throws -> Bool {
    guard try file.size() >= position.offset else { return false }
    return try Fingerprint.of(file, before: position.offset) == position.fingerprint
  }

  /// The newest rotated file that begins with the bytes that were read.
  private func copy(of known: TailedFile) throws -> TailedFile? {
    try rotated().reversed().first { try $0.identity != known.identity && known.isContained(in: $0) }.map {
      TailedFile(known, in: $0)
    }
  }

  /// Files that were rotated after `file`.
  private func rotated(after file: any OpenFile, except identity: FileIdentity) throws -> [TailedFile] {
    try rotated(since: try file.modified(), except: identity).filter { $0.identity != file.identity }
  }

  private func rotated(since time: Int64, except identity: FileIdentity) throws -> [TailedFile] {
    // Two files may have been changed at the same tick: known files are not read again.
    let known = Set(
      finished + pending.map(\.identity) + draining.map(\.file.identity)
        + [current?.identity, identity].compactMap { $0 })
    return try rotated().filter { try !known.contains($0.identity) && $0.modified() >= time }
      .map { try TailedFile($0, offset: 0, limit: limit) }
  }

  /// `PATH.1`, `PATH-20260102` and the like, not compressed, in the order of their modification.
  private func rotated() throws -> [any OpenFile] {
    guard let slash = path.lastIndex(of: "/") else { return [] }
    let directory = String(path[..<slash]), name = path[path.index(after: slash)...]
    // The files may be renamed while they are opened: only a listing that still holds afterwards counts.
    for _ in 0..<Self.listings {
      let names = try list(directory, name)
      let opened = try names.map { try opener.open("\(directory)/\($0)") }
      guard try list(directory, name) == names,
        try zip(names, opened).allSatisfy({ try opener.open("\(directory)/\($0)")?.identity == $1?.identity })
      else { continue }
      // Directories do not open, and links may name a file twice.
      var known: Set<FileIdentity> = []
      let files = opened.compactMap { $0 }.filter { known.insert($0.identity).inserted }
      return try files.map { (file: $0, time: try $0.modified()) }.sorted { $0.time < $1.time }.map(\.file)
    }
    throw RotationUnderWay()
  }

  /// A rotation is under way: the next scan sees its result.
  private struct RotationUnderWay: Error {}

  private func list(_ directory: String, _ name: Substring) throws -> [String] {
    try opener.list(directory.isEmpty ? "/" : directory).filter {
      $0.count > name.count && $0.hasPrefix(name) && !LogFiles.isCompressed($0)
    }
  }
}
