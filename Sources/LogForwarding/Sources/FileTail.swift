package import Base

/// How far a file has been read: which file it was, not what it was called.
package struct FilePosition: Sendable, Equatable {
  package let identity: FileIdentity
  package let offset: Int64
  /// When this place was reached, in milliseconds since 1970: what was changed later has not been read.
  package let time: Int64
  /// Of the bytes before the offset: an inode that was given to another file, and a file that was truncated and has grown
  /// again, have others.
  package let fingerprint: UInt64

  package init(identity: FileIdentity, offset: Int64, time: Int64, fingerprint: UInt64) {
    self.identity = identity
    self.offset = offset
    self.time = time
    self.fingerprint = fingerprint
  }
}

/// Follows one path through its rotations: renamed and made anew, copied and truncated, compressed. Every line once, in order.
///
/// What was written between a copy and its truncation is lost by that kind of rotation itself (logrotate(8), copytruncate).
package struct FileTail: Sendable {
  /// What happened to the path, for the log.
  package enum Event: Sendable, Equatable {
    case rotated
    case truncated(copyFound: Bool)
    /// The file that the checkpoint speaks of is gone, with what had not been read of it.
    case lostRest(of: FilePosition)
    /// Rotated more often than files can be held: so many bytes of the oldest were not read.
    case gaveUp(bytes: Int64)
  }

  private let path: String
  private let opener: any FileOpener
  private let limit: Int
  private var current: Reader?
  /// Read to their ends before `current` goes on; the oldest first.
  private var finishing: [Reader] = []
  /// Read to their ends, but perhaps not written to their ends: a program goes on with a renamed file until it is told to open
  /// its log again. With the looks that are left to each.
  private var lingering: [(reader: Reader, looks: Int)] = []
  /// The last ones that were read to their ends: two files may have changed at the same tick of the kernel's clock.
  private var done: [FileIdentity] = []
  /// Not told yet.
  private var seen: [Event] = []
  /// From the checkpoint, until the first look.
  private var start: FilePosition?

  /// One file, from a position on.
  private struct Reader {
    let file: any OpenFile
    /// Bytes that the splitter has got.
    var offset: Int64
    var splitter: LineSplitter
    /// Of the bytes before `offset`, to notice that they are others now.
    var fingerprint: UInt64
    /// When it had last been changed at the last look.
    var seen: Int64
    /// Its size at the last look, and what it began with: what has not been read yet must not be taken for something else.
    var size: Int64
    var head: (length: Int64, fingerprint: UInt64)
    /// The bytes before those that the splitter holds, as far as a fingerprint reaches.
    var before: [UInt8]

    /// - Parameter offset: the beginning of a line.
    init(_ file: any OpenFile, offset: Int64, limit: Int) throws {
      self.file = file
      self.offset = offset
      splitter = LineSplitter(offset: offset, limit: limit)
      fingerprint = try Fingerprint.of(file, before: offset)
      seen = try file.modified()
      size = try file.size()
      head = try Fingerprint.head(of: file, size: size)
      before = try Fingerprint.bytes(of: file, before: offset)
    }

    /// What there is by now, if it is what there was.
    mutating func remember(_ file: any OpenFile, modified: Int64) throws {
      seen = modified
      size = max(size, try file.size())
      if head.length < Fingerprint.length, head.length < size { head = try Fingerprint.head(of: file, size: size) }
    }

    /// The same place of a copy.
    init(_ other: Reader, in copy: any OpenFile) {
      file = copy
      offset = other.offset
      splitter = other.splitter
      fingerprint = other.fingerprint
      seen = other.seen
      size = other.size
      head = other.head
      before = other.before
    }

    /// The file has all that was seen: it begins with the same bytes, and those before the offset are the ones that were read.
    func isIn(_ file: any OpenFile) throws -> Bool {
      guard try file.size() >= max(offset, size) else { return false }
      return try Fingerprint.of(file, before: head.length) == head.fingerprint
        && Fingerprint.of(file, before: offset) == fingerprint
    }

    /// The lines of the next chunk; none at the end of the file, or of a line that is not whole yet.
    /// - Parameter time: for the places behind them; nil where they are none to go on from.
    mutating func read(_ count: Int, time: Int64?) throws -> LineChunk {
      while true {
        let bytes = try file.read(at: offset, count: count)
        guard !bytes.isEmpty else { return LineChunk() }
        offset += Int64(bytes.count)
        var chunk = splitter.feed(bytes)
        // Of a line that is not whole yet, too: the next look compares it. From what was read, and not from the file: by now
        // it may be another.
        let own = chunk.bytes[..<chunk.ownCount]
        fingerprint = Fingerprint.of(Fingerprint.last(before, own))
        if let time {
          chunk.mark = { [identity = file.identity, before] line, chunk in
            let bytes = Fingerprint.last(before, chunk.bytes[..<Int(line.end - chunk.base)])
            return .file(
              FilePosition(identity: identity, offset: line.end, time: time, fingerprint: Fingerprint.of(bytes)))
          }
        }
        before = Fingerprint.last(before, own.dropLast(splitter.pending))
        if !chunk.isEmpty { return chunk }
      }
    }
  }

  /// - Parameters:
  ///   - start: where the last checkpoint was; nil: the beginning of the file.
  ///   - limit: of a line, see `LineSplitter`.
  package init(path: String, start: FilePosition?, opener: any FileOpener, limit: Int = LineSplitter.longestEvent) {
    self.path = path
    self.start = start
    self.opener = opener
    self.limit = limit
  }

  /// Files that are held for reading while the service is away, each of them disk space that nobody else can free.
  private static let mostHeld = 64
  /// Some 10 seconds: longer than a program takes to open its log again after the signal that follows a rotation.
  private static let lingerLooks = 50
  /// A rotation renames a handful of files within a millisecond.
  private static let listings = 20

  /// The next lines; none when there is nothing new. Lines that were written to a rotated file after the file that took its
  /// place was read on are no place to go on from: their chunk has no mark.
  /// - Parameters:
  ///   - count: bytes, at most.
  ///   - time: now, in milliseconds since 1970.
  /// - Throws: `FileError`.
  package mutating func read(_ count: Int = 256 << 10, time: Int64) throws -> (chunk: LineChunk, events: [Event]) {
    var events = seen
    seen = []
    try look(&events)
    let late = try readLingering(count)
    if !late.isEmpty { return (late, events) }
    while !finishing.isEmpty {
      let file = finishing[0].file
      let chunk = try finishing[0].read(count, time: time)
      if !chunk.isEmpty { return (chunk, events) }
      let reader = finishing.removeFirst()
      done = done.suffix(15) + [file.identity]
      lingering.append((reader, Self.lingerLooks))
    }
    return (try current?.read(count, time: time) ?? LineChunk(), events)
  }

  private mutating func readLingering(_ count: Int) throws -> LineChunk {
    for index in lingering.indices {
      let chunk = try lingering[index].reader.read(count, time: nil)
      if !chunk.isEmpty { return chunk }
      if lingering[index].looks <= 0 {
        // What has no newline by now is a line.
        var last = lingering.remove(at: index).reader
        return last.splitter.finish()
      }
    }
    return LineChunk()
  }

  /// The beginning of the file that the path names now, to be kept before anything of it is sent: without it a file that is
  /// rotated before its first acceptance is not found again after a restart. Throws `FileError`.
  package func beginning(time: Int64) throws -> FilePosition? {
    try opener.open(path).map {
      FilePosition(identity: $0.identity, offset: 0, time: time, fingerprint: try Fingerprint.of($0, before: 0))
    }
  }

  /// Bytes that are not read yet of all that is known.
  package func behind() throws -> Int64 {
    try (finishing + (current.map { [$0] } ?? [])).reduce(0) { $0 + max(0, try $1.file.size() - $1.offset) }
  }

  /// Looks whether the path has been rotated, and holds what it was: called often, it keeps hold of files that are compressed or
  /// removed before their turn comes.
  package mutating func look() throws {
    var events: [Event] = []
    defer { seen += events }
    try look(&events)
  }

  private mutating func look(_ events: inout [Event]) throws {
    do { try lookOnce(&events) } catch is Unsteady {}
    while finishing.count > Self.mostHeld {
      let reader = finishing.removeFirst()
      events.append(.gaveUp(bytes: max(0, try reader.file.size() - reader.offset)))
    }
  }

  /// Changes nothing if it throws.
  private mutating func lookOnce(_ events: inout [Event]) throws {
    for index in lingering.indices { lingering[index].looks -= 1 }
    let present = try opener.open(path)
    guard let reader = current else {
      if let present {
        try begin(present, &events)
      } else if let start, try goOn(from: start, except: start.identity) {
        // Nothing is in its place yet.
        self.start = nil
        current = finishing.popLast()
        events.append(.rotated)
      }
      return
    }
    if let present, present.identity == reader.file.identity {
      let time = try present.modified()
      if try reader.isIn(present) {
        // Written, copied and truncated again since the last look: nothing of it is left here to know it by.
        if reader.offset == 0, time != reader.seen, try present.size() == 0 {
          finishing += try siblings(changedSince: reader.seen, except: present.identity)
        }
        try current?.remember(present, modified: time)
        return
      }
      // Truncated: what was not read yet is in the copy, if there is one.
      let copy = try copyOf(reader)
      let others = try copy.map { try siblings(newerThan: $0.file, except: present.identity) } ?? []
      let fresh = try Reader(present, offset: 0, limit: limit)
      finishing += (copy.map { [$0] } ?? []) + others
      current = fresh
      events.append(.truncated(copyFound: copy != nil))
    } else if let present {
      let others = try siblings(newerThan: reader.file, except: present.identity),
        fresh = try Reader(present, offset: 0, limit: limit)
      finishing += [reader] + others
      current = fresh
      events.append(.rotated)
    } else {
      // Renamed, and nothing in its place yet; more than once, perhaps.
      let others = try siblings(newerThan: reader.file, except: reader.file.identity)
      guard !others.isEmpty else { return }
      // The newest is what the path was last: rotations go on from there.
      finishing += [reader] + others.dropLast()
      current = others.last
      events.append(.rotated)
    }
  }

  /// The first look: goes on where the checkpoint was.
  private mutating func begin(_ present: any OpenFile, _ events: inout [Event]) throws {
    let fresh = try Reader(present, offset: 0, limit: limit)
    guard let start else {
      current = fresh
      return
    }
    if start.offset == 0, present.identity == start.identity {
      // Nothing to know the file by: what was copied since then are its former contents.
      finishing = try rotated().filter { try $0.modified() > start.time }.map {
        try Reader($0, offset: 0, limit: limit)
      }
      current = fresh
    } else if present.identity == start.identity, try Self.matches(present, start) {
      current = try Reader(present, offset: start.offset, limit: limit)
    } else {
      // Rotated while nobody looked: the file has another name now, or its copy has.
      events.append(try goOn(from: start, except: present.identity) ? .rotated : .lostRest(of: start))
      current = fresh
    }
    self.start = nil
  }

  /// Finds the file of a checkpoint among the rotated ones.
  /// - Returns: false if it is not there any more.
  private mutating func goOn(from start: FilePosition, except identity: FileIdentity) throws -> Bool {
    let others = try rotated()
    guard
      let same = try others.first(where: { try $0.identity == start.identity && Self.matches($0, start) })
        ?? others.first(where: { try start.offset > 0 && Self.matches($0, start) })
    else { return false }
    finishing = try [Reader(same, offset: start.offset, limit: limit)] + siblings(newerThan: same, except: identity)
    return true
  }

  private static func matches(_ file: any OpenFile, _ position: FilePosition) throws -> Bool {
    guard try file.size() >= position.offset else { return false }
    return try Fingerprint.of(file, before: position.offset) == position.fingerprint
  }

  /// The newest file beside the path that begins with what was read.
  private func copyOf(_ reader: Reader) throws -> Reader? {
    try rotated().reversed().first { try $0.identity != reader.file.identity && reader.isIn($0) }.map {
      Reader(reader, in: $0)
    }
  }

  /// Rotated after `file` was.
  private func siblings(newerThan file: any OpenFile, except identity: FileIdentity) throws -> [Reader] {
    try siblings(changedSince: try file.modified(), except: identity).filter { $0.file.identity != file.identity }
  }

  private func siblings(changedSince time: Int64, except identity: FileIdentity) throws -> [Reader] {
    // Two files may have been changed at the same tick: what is known already is not read again.
    let known = Set(
      done + finishing.map(\.file.identity) + lingering.map(\.reader.file.identity)
        + [current?.file.identity, identity].compactMap { $0 })
    return try rotated().filter { try !known.contains($0.identity) && $0.modified() >= time }
      .map { try Reader($0, offset: 0, limit: limit) }
  }

  /// `PATH.1`, `PATH-20260102` and the like, not compressed; the one that was changed first, first.
  private func rotated() throws -> [any OpenFile] {
    guard let slash = path.lastIndex(of: "/") else { return [] }
    let directory = String(path[..<slash]), name = path[path.index(after: slash)...]
    // While the files are opened their names may move on: only a listing that still holds afterwards counts.
    for _ in 0..<Self.listings {
      let names = try list(directory, name)
      let files = try names.compactMap { try opener.open("\(directory)/\($0)") }
      guard files.count == names.count, Set(files.map(\.identity)).count == files.count,
        try list(directory, name) == names,
        try zip(names, files).allSatisfy({ try opener.open("\(directory)/\($0)")?.identity == $1.identity })
      else { continue }
      return try files.map { (file: $0, time: try $0.modified()) }.sorted { $0.time < $1.time }.map(\.file)
    }
    throw Unsteady()
  }

  /// A rotation is under way: the next look will see what has become of it.
  private struct Unsteady: Error {}

  private func list(_ directory: String, _ name: Substring) throws -> [String] {
    try opener.list(directory.isEmpty ? "/" : directory).filter {
      $0.count > name.count && $0.hasPrefix(name) && !LogFiles.isCompressed($0)
    }
  }
}

/// FNV-1a, 64 bits, of at most the last 256 bytes before a place: tells apart files that have the same name or number, not
/// files that somebody makes alike on purpose.
enum Fingerprint {
  static let length: Int64 = 256

  /// Of the first bytes of a file. Throws `FileError`.
  static func head(of file: any OpenFile, size: Int64) throws -> (length: Int64, fingerprint: UInt64) {
    let length = min(size, Self.length)
    return (length, try of(file, before: length))
  }

  /// Throws `FileError`.
  static func of(_ file: any OpenFile, before offset: Int64) throws -> UInt64 {
    of(try bytes(of: file, before: offset))
  }

  /// At most the last 256 of a file before a place. Throws `FileError`.
  static func bytes(of file: any OpenFile, before offset: Int64) throws -> [UInt8] {
    let start = max(0, offset - length)
    return try file.read(at: start, count: Int(offset - start))
  }

  /// At most the last 256 of two that follow each other.
  static func last(_ first: [UInt8], _ second: ArraySlice<UInt8>) -> [UInt8] {
    let reach = Int(length)
    return second.count >= reach ? Array(second.suffix(reach)) : first.suffix(reach - second.count) + second
  }

  static func of(_ bytes: [UInt8]) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    return hash
  }
}

/// Which names are log files.
package enum LogFiles {
  private static let compressed = [".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z", ".zip"]

  package static func isCompressed(_ name: String) -> Bool { compressed.contains { name.hasSuffix($0) } }
}
