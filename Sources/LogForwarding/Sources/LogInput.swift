package import Base

/// How a source is read on this machine. A new kind of source is a static function here or beside its `LineSource`.
package struct LogInput: Sendable {
  /// What sources read with.
  struct Seams: Sendable {
    let files: any FileStore
    let launcher: any ProcessLauncher
    let clock: any Clock<Duration>
    let uptime: MonotonicTime
    let now: WallClock
    let log: Logger
  }

  enum Kind: Sendable {
    /// One stream of lines, from a checkpoint on.
    case lines(@Sendable (Checkpoint?, Seams) -> any LineSource)
    /// Each file that matches has a stream of its own.
    case files(FilePattern)
  }

  let kind: Kind

  init(_ kind: Kind) { self.kind = kind }

  package static func file(_ pattern: FilePattern) -> LogInput {
    if pattern.hasWildcards { return LogInput(.files(pattern)) }
    return LogInput(
      .lines { FileSource(path: pattern.path, checkpoint: $0, opener: $1.files, now: $1.now, log: $1.log) })
  }

  /// - Parameter unit: nil: the whole journal.
  package static func journal(unit: String?) -> LogInput { command(.journal(unit: unit)) }

  /// - Parameter docker: path of the program.
  package static func container(name: String, docker: String) -> LogInput { command(.container(name, docker: docker)) }

  package static func spool(_ spool: Spool) -> LogInput {
    LogInput(.lines { SpoolSource(spool, checkpoint: $0, now: $1.now) })
  }

  private static func command(_ format: CommandSource.CommandFormat) -> LogInput {
    LogInput(.lines { CommandSource(format, checkpoint: $0, launcher: $1.launcher, clock: $1.clock) })
  }
}
