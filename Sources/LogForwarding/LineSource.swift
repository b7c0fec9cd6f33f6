package import Base

/// A place in a source, to go on from after a restart.
package enum SourceMark: Sendable, Equatable {
  case file(FilePosition)
  /// The journal's own.
  case cursor(String)
}

/// A line with its time, as a source gives it.
package struct SourceLine: Sendable {
  package let text: String
  /// Nil: to be found in the text.
  package let time: Timestamp?
  /// Where to go on behind it; nil where that is behind a later line that was read before. Throws `FileError`.
  package let mark: (@Sendable () throws -> SourceMark)?

  package init(text: String, time: Timestamp?, mark: (@Sendable () throws -> SourceMark)?) {
    self.text = text
    self.time = time
    self.mark = mark
  }
}

/// Gives lines, each once, in order, from a mark on.
protocol LineSource: Sendable {
  /// The next lines; none when there is nothing new. Throws `FileError` or `LaunchError`.
  mutating func read() async throws -> [SourceLine]
  /// Between reads, and often: keeps hold of what may soon be gone. Throws `FileError`.
  mutating func look() throws
  /// Bytes that are known and not read yet; nil where nobody can tell.
  func behind() -> Int64?
  /// To be kept before anything is sent, where there is no mark yet; nil where none is needed. Throws `FileError`.
  func beginning() throws -> SourceMark?
}

/// Lines of one path, through its rotations.
struct FileSource: LineSource {
  private var tail: FileTail
  private let path: String
  private let now: WallClock
  private let log: Logger

  init(path: String, mark: SourceMark?, opener: any FileOpener, now: @escaping WallClock, log: Logger) {
    self.now = now
    var start: FilePosition?
    if case .file(let position)? = mark { start = position }
    tail = FileTail(path: path, start: start, opener: opener)
    self.path = path
    self.log = log
  }

  mutating func read() async throws -> [SourceLine] {
    let time = now().milliseconds
    let (lines, events) = try tail.read()
    for event in events {
      switch event {
      case .rotated: log.debug("\(path) was rotated")
      case .truncated(copyFound: true): log.debug("\(path) was copied and truncated")
      case .truncated(copyFound: false):
        log.warning("\(path) was truncated, and no copy of it was found: lines that were not read yet are lost")
      case .lostRest: log.warning("the file that \(path) was is gone: lines of it that were not read yet are lost")
      }
    }
    return lines.map { line in
      guard !line.isLate else { return SourceLine(text: line.text, time: nil, mark: nil) }
      return SourceLine(text: line.text, time: nil, mark: { .file(try line.position(time: time)) })
    }
  }

  mutating func look() throws { try tail.look() }

  func behind() -> Int64? { try? tail.behind() }

  func beginning() throws -> SourceMark? { try tail.beginning(time: now().milliseconds).map { .file($0) } }
}

/// Entries of the journal, by `journalctl --output=json` from a cursor on.
struct JournalSource: LineSource {
  private let unit: String?
  private let launcher: any ProcessLauncher
  private var cursor: String?

  /// At a time: some hundred KiB.
  private static let entries = 1000
  private static let timeout = Duration.seconds(20)

  init(unit: String?, mark: SourceMark?, launcher: any ProcessLauncher) {
    self.unit = unit
    self.launcher = launcher
    if case .cursor(let text)? = mark { cursor = text }
  }

  mutating func read() async throws -> [SourceLine] {
    var arguments = ["--output=json", "--no-pager", "--quiet", "--output-fields=MESSAGE", "--lines=+\(Self.entries)"]
    if let unit { arguments.append("--unit=\(unit)") }
    if let cursor { arguments.append("--after-cursor=\(cursor)") }
    let result = try await launcher.run(Command("/bin/journalctl", arguments), timeout: Self.timeout)
    let lines = result.output.split(separator: "\n").compactMap { Self.line(String($0)) }
    if case .cursor(let last)? = try lines.last?.mark?() { cursor = last }
    return lines
  }

  /// MESSAGE is an array of bytes where it is no text (systemd, "Journal Export Formats").
  private static func line(_ text: String) -> SourceLine? {
    guard let entry = try? JSONValue(parsing: text), let cursor = entry["__CURSOR"]?.string,
      let time = entry["__REALTIME_TIMESTAMP"]?.string.flatMap({ Int64($0) })
    else { return nil }
    let message = entry["MESSAGE"]
    let bytes = message?.array?.compactMap { $0.integer.map { UInt8(truncatingIfNeeded: $0) } }
    return SourceLine(
      text: message?.string ?? bytes.map { String(decoding: $0, as: UTF8.self) } ?? "", time: Timestamp(milliseconds: time / 1000),
      mark: { .cursor(cursor) })
  }

  func look() {}

  func behind() -> Int64? { nil }

  func beginning() -> SourceMark? { nil }
}
