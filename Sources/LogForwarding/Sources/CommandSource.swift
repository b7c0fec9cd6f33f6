internal import Base

/// Lines of a program that follows a log; started again from the last line whenever it ends.
struct CommandSource: LineSource {
  /// The program's command line, and how its lines are read.
  struct CommandFormat: Sendable {
    /// Follows the log after the cursor; from the beginning if there is none.
    let command: @Sendable (_ cursor: String?) -> Command
    /// Nil if the line is not an entry but a message of the program itself.
    let entry: @Sendable (_ line: ArraySlice<UInt8>) -> (text: String, time: Timestamp, cursor: String)?
    /// Cursors grow, and the program may begin with entries that were read before.
    let skipsUpToCursor: Bool
  }

  private let format: CommandFormat
  private let launcher: any ProcessLauncher
  private let clock: any Clock<Duration>
  private var process: (any FollowedProcess)?
  private var splitter = LineSplitter()
  /// Of the last entry that was read.
  private var cursor: String?
  /// The program's last line that was not an entry.
  private var message = ""
  /// Polls left until the started program counts as having nothing to send yet.
  private var startupPolls = 0

  private static let pollInterval = Duration.milliseconds(50)
  private static let maximumStartupPolls = 20
  /// An entry of the journal may be some hundred KiB as JSON, escapes included.
  private static let longestLine = 4 << 20

  init(_ format: CommandFormat, checkpoint: Checkpoint?, launcher: any ProcessLauncher, clock: any Clock<Duration>) {
    self.clock = clock
    self.format = format
    self.launcher = launcher
    if case .cursor(let text)? = checkpoint { cursor = text }
  }

  mutating func read(_ count: Int) async throws -> LineChunk {
    let process: any FollowedProcess
    if let running = self.process {
      process = running
    } else {
      process = try launcher.follow(format.command(cursor))
      self.process = process
      startupPolls = Self.maximumStartupPolls
      // Three times: the splitter reserves room for replaced bytes.
      splitter = LineSplitter(limit: 3 * Self.longestLine)
    }
    // Existing entries arrive within moments of the start.
    var bytes = process.read(count)
    while bytes?.isEmpty == true, startupPolls > 0 {
      startupPolls -= 1
      try await clock.sleep(for: Self.pollInterval)
      bytes = process.read(count)
    }
    guard let bytes else {
      self.process = nil
      let last = splitter.finish()
      let chunk = entries(of: last)
      if !chunk.isEmpty { return chunk }
      defer { message = "" }
      throw SourceError(
        explanation: "\(format.command(nil).program) has ended\(message.isEmpty ? "" : ": " + message)")
    }
    return entries(of: splitter.feed(bytes))
  }

  private mutating func entries(of raw: LineChunk) -> LineChunk {
    var chunk = LineChunk(), cursors = [cursor]
    for line in raw.lines {
      guard let entry = format.entry(raw.bytes[line.text]) else {
        message = String(raw.text(line).prefix(200))
        continue
      }
      if format.skipsUpToCursor, let cursor, entry.cursor <= cursor { continue }
      cursor = entry.cursor
      cursors.append(entry.cursor)
      let parts = Self.parts(entry.text)
      for (index, part) in parts.enumerated() {
        // A part that is not the last resumes before its entry.
        let index = cursors.count - (index < parts.count - 1 ? 2 : 1)
        chunk.append(part, end: Int64(index), time: entry.time)
      }
    }
    chunk.makeCheckpoint = { [cursors] line, _ in cursors[Int(line.end)].map { .cursor($0) } }
    return chunk
  }

  /// A text that is too long for one event, in parts.
  private static func parts(_ text: String) -> [String] {
    guard text.utf8.count > LineSplitter.longestEvent else { return [text] }
    var splitter = LineSplitter()
    return splitter.feed(Array(text.utf8)).texts + splitter.finish().texts
  }

  func stop() { process?.stop() }
}

extension CommandSource.CommandFormat {
  /// Entries of the journal, by `journalctl --output=json`.
  /// - Parameter unit: nil: the whole journal.
  static func journal(unit: String?) -> Self {
    Self(
      command: { cursor in
        // `--no-tail`: from the first entry; `--follow` alone begins with the last ones. `--all`: without it journalctl
        // omits a field of more than 4096 bytes (journalctl(1)).
        var arguments = [
          "--follow", "--no-tail", "--output=json", "--all", "--no-pager", "--quiet", "--output-fields=MESSAGE",
        ]
        if let unit { arguments.append("--unit=\(unit)") }
        if let cursor { arguments.append("--after-cursor=\(cursor)") }
        return Command("/bin/journalctl", arguments)
      },
      entry: { line in
        guard let entry = try? JSONValue(parsing: Array(line)), let cursor = entry["__CURSOR"]?.string,
          let time = entry["__REALTIME_TIMESTAMP"]?.string.flatMap({ Int64($0) })
        else { return nil }
        // An array of bytes if it is not text, null if it is too long (systemd, "Journal Export Formats").
        let message = entry["MESSAGE"]
        let bytes = message?.array?.compactMap { $0.integer.map { UInt8(truncatingIfNeeded: $0) } }
        return (
          message?.string ?? bytes.map { String(decoding: $0, as: UTF8.self) } ?? "",
          Timestamp(milliseconds: time / 1000), cursor
        )
      }, skipsUpToCursor: false)
  }

  /// Output of a container, by `docker logs --timestamps`, whose times all have nine decimals.
  static func container(_ name: String, docker: String) -> Self {
    Self(
      command: { cursor in
        Command(docker, ["logs", "--follow", "--timestamps"] + (cursor.map { ["--since", $0] } ?? []) + [name])
      },
      entry: { line in
        let word = line.prefix { $0 != 32 }
        guard word.count == 30, word.last == UInt8(ascii: "Z"),
          let time = LogTimestamp().find(in: word, now: Timestamp(milliseconds: 0))
        else {
          return nil
        }
        return (String(decoding: line.dropFirst(31), as: UTF8.self), time, String(decoding: word, as: UTF8.self))
      }, skipsUpToCursor: true)
  }
}
