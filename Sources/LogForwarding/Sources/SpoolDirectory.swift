internal import Base

/// One file of a spool, or the record of a dropped one.
struct SpoolSegment: Equatable {
  let number: Int64
  var bytes: Int64 = 0
  var lines: Int64 = 0
  /// A `.lost` file stands for it: the loss is reported, not read.
  let isLost: Bool

  init(number: Int64, bytes: Int64 = 0, lines: Int64 = 0) {
    self.number = number
    self.bytes = bytes
    self.lines = lines
    isLost = false
  }

  /// The record of a loss.
  init(number: Int64, losses: SourceLosses) {
    self.number = number
    bytes = losses.bytes
    lines = losses.lines
    isLost = true
  }

  /// What its drop loses.
  var losses: SourceLosses {
    var losses = SourceLosses()
    losses.lines = lines
    losses.bytes = bytes
    return losses
  }
}

/// The files of a spool: `00000001.log` and so on, and `00000001.lost` for a dropped one.
struct SpoolDirectory: Sendable {
  let path: String
  let files: any FileStore
  let log: Logger

  /// A larger number is none of ours: a queue never grows to so many segments, and numbers after it must not overflow.
  private static let largestNumber: Int64 = 1_000_000_000_000_000
  /// Lines are counted up to this size: a segment of ours is far smaller.
  private static let countedBytes: Int64 = 64 << 20

  /// What an earlier run left, the oldest first; an error if the directory cannot be listed.
  ///
  /// A segment that cannot be read is listed with the size 0: its number is taken, and reading it reports the error.
  func load() throws(FileError) -> [SpoolSegment] {
    let names: [String]
    do { names = try files.list(path) } catch {
      if error.isNotFound { return [] }
      throw error
    }
    var segments = names.compactMap { segment(named: $0) }
    // A crash between the two files of a loss leaves both: the loss counts.
    segments.sort { ($0.number, $0.isLost ? 0 : 1) < ($1.number, $1.isLost ? 0 : 1) }
    var known: [SpoolSegment] = []
    for segment in segments where known.last?.number != segment.number { known.append(segment) }
    return known
  }

  /// Nil if the file is not a segment.
  private func segment(named name: String) -> SpoolSegment? {
    let number = name.split(separator: ".").first.flatMap { Int64($0) } ?? 0
    let segment = SpoolSegment(number: number), lost = SpoolSegment(number: number, losses: SourceLosses())
    guard (1...Self.largestNumber).contains(number), [fileName(segment), fileName(lost)].contains(name) else {
      // Temporary files of a killed run begin with a dot.
      if !name.hasPrefix(".") { log.warning("\(path)/\(name) is not a segment of the log queue and is ignored") }
      return nil
    }
    do {
      return try name == fileName(lost) ? readLoss(lost) : count(segment)
    } catch {
      log.warning("cannot read a segment of the log queue", ["reason": .string(error.explained)])
      return name == fileName(lost) ? lost : segment
    }
  }

  private func readLoss(_ segment: SpoolSegment) throws -> SpoolSegment {
    let value = try JSONValue(parsing: try files.read(filePath(segment), limit: 4096))
    var losses = SourceLosses()
    losses.lines = max(0, value["lines"]?.integer ?? 0)
    losses.bytes = max(0, value["bytes"]?.integer ?? 0)
    return SpoolSegment(number: segment.number, losses: losses)
  }

  /// Nil if it has disappeared since it was listed.
  private func count(_ segment: SpoolSegment) throws -> SpoolSegment? {
    guard let file = try open(segment) else { return nil }
    var offset: Int64 = 0, lines: Int64 = 0
    while offset < Self.countedBytes {
      let bytes = try file.read(at: offset, count: 1 << 16)
      if bytes.isEmpty { break }
      offset += Int64(bytes.count)
      lines += Int64(bytes.reduce(0) { $0 + ($1 == 10 ? 1 : 0) })
    }
    return SpoolSegment(number: segment.number, bytes: max(offset, try file.size()), lines: lines)
  }

  // MARK: Files. All throw `FileError`.

  func create() throws { try files.createDirectory(path, mode: 0o750, owner: nil) }

  func append(_ number: Int64) throws -> any AppendFile { try files.append(to: filePath(SpoolSegment(number: number))) }

  func open(_ segment: SpoolSegment) throws -> (any OpenFile)? { try files.open(filePath(segment)) }

  func remove(_ segment: SpoolSegment) throws { try files.removeFile(filePath(segment)) }

  func recordLoss(_ loss: SpoolSegment) throws {
    let text = JSONValue.object(["lines": .integer(loss.lines), "bytes": .integer(loss.bytes)]).compactText
    try files.write(filePath(loss), Array(text.utf8), mode: 0o640, owner: nil)
  }

  private func filePath(_ segment: SpoolSegment) -> String { "\(path)/\(fileName(segment))" }

  private func fileName(_ segment: SpoolSegment) -> String {
    let digits = String(segment.number)
    return String(repeating: "0", count: max(0, 8 - digits.count)) + digits + (segment.isLost ? ".lost" : ".log")
  }
}
