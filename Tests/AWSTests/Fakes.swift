import Synchronization
import TestSupport

@testable import AWS
@testable import Base

/// Answers requests in the order in which the test set answers up; a request without one ends the test run.
final class ScriptedTransport: HTTPTransport {
  typealias Answer = @Sendable (HTTPRequest) throws -> HTTPResponse

  private struct State {
    var answers: [Answer]
    var requests: [HTTPRequest] = []
  }

  private let state: Mutex<State>

  init(_ answers: [Answer]) { state = Mutex(State(answers: answers)) }

  var requests: [HTTPRequest] { state.withLock { $0.requests } }

  func send(_ request: HTTPRequest) async throws -> HTTPResponse {
    let answer: Answer? = state.withLock { state in
      state.requests.append(request)
      return state.answers.isEmpty ? nil : state.answers.removeFirst()
    }
    guard let answer else { forgotten("an answer to \(request.method) \(request.url)") }
    return try answer(request)
  }
}

func answer(_ status: Int = 200, _ body: String = "", headers: [String: String] = [:]) -> ScriptedTransport.Answer {
  { _ in HTTPResponse(status: status, headers: headers, body: Array(body.utf8)) }
}

func failure(_ error: TransportError) -> ScriptedTransport.Answer { { _ in throw error } }

/// Sleeps in no time, and remembers for how long.
final class RecordingClock: Clock {
  struct Instant: InstantProtocol {
    var offset: Duration
    func advanced(by duration: Duration) -> Instant { Instant(offset: offset + duration) }
    func duration(to other: Instant) -> Duration { other.offset - offset }
    static func < (left: Instant, right: Instant) -> Bool { left.offset < right.offset }
  }

  private struct State {
    var now = Duration.zero
    var sleeps: [Duration] = []
    var wall = Timestamp(iso8601: "2026-01-02T03:04:05Z")!
  }

  private let state = Mutex(State())

  var now: Instant { Instant(offset: state.withLock { $0.now }) }
  var minimumResolution: Duration { .zero }
  var sleeps: [Duration] { state.withLock { $0.sleeps } }
  var uptime: MonotonicTime { { self.now.offset } }
  /// Stands still but for `advance`.
  var wall: WallClock { { self.state.withLock { $0.wall } } }

  /// Monotonic time goes on, and the wall clock is set.
  func advance(by duration: Duration, wall: Duration) {
    state.withLock { state in
      state.now += duration
      state.wall = state.wall + wall
    }
  }

  func sleep(until deadline: Instant, tolerance: Duration?) async throws {
    state.withLock { state in
      state.sleeps.append(deadline.offset - state.now)
      state.now = deadline.offset
    }
  }
}

struct SilentSink: LogSink {
  func write(_ record: LogRecord) {}
  func progress(_ record: LogRecord) {}
}

/// Keeps what was logged.
final class RecordingSink: LogSink {
  private let records = Mutex<[String]>([])
  var lines: [String] { records.withLock { $0 } }
  func write(_ record: LogRecord) {
    records.withLock {
      $0.append(
        "\(record.level.name) \(record.message) "
          + record.attributes.map { "\($0.key)=\($0.value.compactText)" }.joined(separator: " ")
      )
    }
  }
  func progress(_ record: LogRecord) { write(record) }
}

struct MemoryFiles: FileReader {
  var files: [String: String] = [:]
  var errors: [String: FileError] = [:]

  func status(_ path: String) throws(FileError) -> FileStatus? {
    files[path].map { FileStatus(kind: .file, size: Int64($0.utf8.count), mode: 0o644, user: 0, group: 0, device: 1) }
  }
  func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
    if let error = errors[path] { throw error }
    guard let text = files[path] else { throw FileError("read", path, errno: 2, reason: "No such file or directory") }
    return Array(text.utf8)
  }
  func isLink(_ path: String) -> Bool { forgotten("whether \(path) is a link") }
  func resolvedPath(_ path: String) -> String { forgotten("where \(path) leads") }
  func list(_ directory: String) throws(FileError) -> [String] { forgotten("a list of \(directory)") }
}
