import Foundation
import Glibc
import Synchronization
import Testing

@testable import Base
@testable import Host

/// Calls `body` with a directory of its own.
func withDirectory(_ body: (String) async throws -> Void) async throws {
  let path = NSTemporaryDirectory() + "consul-bootstrap-\(UUID())"
  try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: path) }
  try await body(path)
}

/// The limit of what happens at once. The tests of the whole process start together: on a machine under load, one whose
/// turn comes last waits for most of a minute. What these tests guard against takes longer, or never ends.
let atOnce = Duration.seconds(120)

/// Waits for a condition that other threads or processes bring about.
/// - Returns: whether it holds before the limit.
func eventually(within limit: Duration = atOnce, _ condition: () throws -> Bool) async rethrows -> Bool {
  let deadline = ContinuousClock.now + limit
  while ContinuousClock.now < deadline {
    if try condition() { return true }
    try? await Task.sleep(for: .milliseconds(2))
  }
  return try condition()
}

/// Pipes, sockets and pidfds of this process; meant for exit tests, whose process does nothing else. (The runtime opens
/// timers and files of /proc as it likes.)
func openDescriptors() -> [String] {
  links().filter { $0.contains("pipe:") || $0.contains("socket:") || $0.contains("pidfd") }.sorted()
}

/// What the descriptors refer to (proc(5)), found without a descriptor.
private func links() -> [String] {
  (0..<2048).compactMap { number in
    var buffer = [CChar](repeating: 0, count: 256)
    let count = readlink("/proc/self/fd/\(number)", &buffer, buffer.count)
    return count > 0 ? String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
  }
}

/// Allows new descriptors below this number only: with 3 there are none, for 0 to 2 are in use. For exit tests.
func limitDescriptors(to number: UInt) {
  var limit = rlimit()
  precondition(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
  limit.rlim_cur = number
  precondition(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
}

/// Runs jobs on a thread of its own. While libdispatch's queues hold jobs, its monitor opens files of /proc once a
/// second, and traps where it cannot (`_dispatch_workq_monitor_pools`).
final class OwnThread: TaskExecutor {
  private let jobs = Mutex<[UnownedJob]>([])
  private let count = DispatchSemaphore(value: 0)

  init() {
    Thread.detachNewThread { [self] in
      while true {
        count.wait()
        jobs.withLock { $0.removeFirst() }.runSynchronously(on: asUnownedTaskExecutor())
      }
    }
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    jobs.withLock { $0.append(job) }
    count.signal()
  }
}

/// How many threads of this process have the name; meant for exit tests.
func threads(named name: String) throws -> Int {
  try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").filter {
    (try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8)) == name + "\n"
  }.count
}

/// Takes the address space that threads need; meant for exit tests.
func takeAllThreads() {
  // Room for some threads, and with the last of them for nothing but small allocations.
  let pages = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ").first
  let used = (pages.flatMap { UInt($0) } ?? 0) * UInt(getpagesize())
  var limit = rlimit(rlim_cur: used + (16 << 20), rlim_max: used + (16 << 20))
  precondition(setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0)
  while (try? startThread("waiting", { while true { pause() } })) != nil {}
}

/// A port of 127.0.0.1 that accepts connections in the kernel and never answers.
final class SilentPort: Sendable {
  let port: UInt16
  private let socket: Descriptor

  init(backlog: Int32 = 4096) {
    let number = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    socket = Descriptor(number)
    port = withInternetAddress(IPv4Address("127.0.0.1")!, 0) { address, length in
      precondition(bind(number, address, length) == 0 && listen(number, backlog) == 0)
      return localPort(of: number)
    }
  }

  /// Waits for a connection.
  func connection() async {
    _ = await eventually { waitUntilReady(socket.number, POLLIN, deadline: Machine.uptime()) == 0 }
  }
}

func localPort(of socket: Int32) -> UInt16 {
  var address = sockaddr()
  var length = socklen_t(MemoryLayout<sockaddr>.size)
  precondition(getsockname(socket, &address, &length) == 0)
  return withUnsafeBytes(of: &address.sa_data) { UInt16(bigEndian: $0.loadUnaligned(as: UInt16.self)) }
}

/// Files that have the content, or the error, which the test gives them; any other path crashes the test.
struct ScriptedFiles: FileReader {
  let files: [String: Result<String, FileError>]

  private func file(_ path: String) -> Result<String, FileError> {
    guard let file = files[path] else { preconditionFailure("the test has no file \(path)") }
    return file
  }

  func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] { Array(try file(path).get().utf8) }
  func status(_ path: String) throws(FileError) -> FileStatus? { preconditionFailure("status \(path)") }
  func isLink(_ path: String) throws(FileError) -> Bool { preconditionFailure("isLink \(path)") }
  func resolvedPath(_ path: String) throws(FileError) -> String { preconditionFailure("resolvedPath \(path)") }
  func list(_ directory: String) throws(FileError) -> [String] { preconditionFailure("list \(directory)") }
}

extension FileError {
  static func denied(_ path: String) -> FileError { FileError("read", path, number: EACCES) }
  static func missing(_ path: String) -> FileError { FileError("read", path, number: ENOENT) }
}

/// Keeps the messages of its records.
final class RecordingSink: LogSink {
  private let records = Mutex<[String]>([])
  var messages: [String] { records.withLock { $0 } }

  func write(_ record: LogRecord) {
    let attributes = record.attributes.map { " \($0.key)=\($0.value.string ?? "")" }.joined()
    records.withLock { $0.append("\(record.level.name) \(record.message)\(attributes)") }
  }

  func progress(_ record: LogRecord) { write(record) }
}

/// `#expect(value == expected)` for the body of an exit test, of whose failures only the comments are shown.
func expect<Value: Equatable>(_ subject: String, _ value: Value, is expected: Value) {
  #expect(value == expected, "\(subject): \(value), not \(expected)")
}

/// Whether `body` throws exactly this error, for the body of an exit test.
func expect<Expected: Error & Equatable>(
  _ subject: String, throws expected: Expected, _ body: () async throws -> Void
) async {
  do {
    try await body()
    Issue.record("\(subject): no error")
  } catch {
    #expect(error as? Expected == expected, "\(subject): \(error), not \(expected)")
  }
}
