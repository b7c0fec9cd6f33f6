internal import Foundation
internal import Synchronization

/// Advances the test clocks of this process, each to its earliest deadline, whenever no task can run.
///
/// Swift does not show whether a task is ready to run. A thread of its own sees it from outside, in rounds: jobs
/// enqueued now have run, so that none waits for a thread; and no thread of the process is running or ready, as the
/// kernel shows it, twice, without one having run in between. So a task that computes, or that a busy machine delays,
/// holds the time.
final class IdleConductor: Sendable {
  static let shared = IdleConductor()

  /// How much a process that never becomes idle computes before the time moves all the same: another test may spin.
  /// More than the tests that compute need together, which keep every thread busy in the first seconds of a run: a time
  /// that moves then is a flaky test. Processor time, since a busy machine may give this process a tenth of a core.
  private static let computingLimit = Duration.seconds(40)
  /// The same for a test that waits in real time.
  private static let waitingLimit = Duration.seconds(120)

  /// One round is not enough: libdispatch's threads sleep for moments with a job in the queue, where they compete for
  /// it. A job that one round overlooks runs before the jobs of the next. Of 25 runs on a busy machine, 7 moved the
  /// time too early with one round.
  private static let rounds = 2

  private let clocks = Mutex<[ObjectIdentifier: TestClock]>([:])
  private let added = DispatchSemaphore(value: 0)

  private init() {
    Thread.detachNewThread { [self] in
      while true {
        added.wait()
        while clocks.withLock({ !$0.isEmpty }) { conduct() }
      }
    }
  }

  /// Conducts a clock that has sleepers, until it has none.
  func add(_ clock: TestClock) {
    let isNew = clocks.withLock { $0.updateValue(clock, forKey: ObjectIdentifier(clock)) == nil }
    if isNew { added.signal() }
  }

  private func conduct() {
    let start = ContinuousClock.now, computed = Self.processorTime
    while !isIdle(), Self.processorTime - computed < Self.computingLimit,
      ContinuousClock.now - start < Self.waitingLimit
    {
      usleep(50)
    }
    for (key, clock) in clocks.withLock({ $0 }) {
      // Under the lock, so that a sleeper that comes now adds its clock again.
      clocks.withLock { if !clock.hasSleepers { $0[key] = nil } }
      clock.advance()
    }
  }

  /// Of all threads of this process.
  private static var processorTime: Duration {
    var time = timespec()
    // It fails for a clock that does not exist only.
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }

  private func isIdle() -> Bool { (1...Self.rounds).allSatisfy { _ in haveJobsRun() && areThreadsAsleep() } }

  private func haveJobsRun() -> Bool {
    [TaskPriority.high, .medium, .low].allSatisfy { priority in
      let ran = DispatchSemaphore(value: 0)
      Task.detached(priority: priority) { ran.signal() }
      return ran.wait(timeout: .now() + .milliseconds(100)) == .success
    }
  }

  private func areThreadsAsleep() -> Bool {
    // The threads that ran the jobs go to sleep.
    usleep(20)
    guard let first = Threads.sleeping(), let second = Threads.sleeping() else { return false }
    return first == second
  }
}

/// The threads of this process as the kernel shows them (proc_pid_stat(5), proc_pid_schedstat(5), proc_pid_syscall(5)).
private enum Threads {
  #if arch(arm64)
    private static let sleepCalls = ["101", "115"]
  #else
    private static let sleepCalls = ["35", "230"]
  #endif

  /// How often each thread other than this has run; nil if one of them is running or ready to run.
  static func sleeping() -> [String: String]? {
    let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/thread-self"))?.split(separator: "/")
      .last
    var counts: [String: String] = [:]
    for thread in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task")) ?? []
    where thread[...] != own {
      // A thread that has ended meanwhile has no files.
      guard let status = read("/proc/self/task/\(thread)/stat") else { continue }
      // After the name in parentheses, which may hold anything.
      guard let state = status.split(separator: ")").last?.split(separator: " ").first, "SITtZXx".contains(state)
      else { return nil }
      // A thread that waits for work waits for another. In nanosleep or clock_nanosleep it will go on by itself, as
      // libdispatch's threads do with a job in the queue.
      let call = read("/proc/self/task/\(thread)/syscall")?.split(separator: " ").first
      if let call, sleepCalls.contains(String(call)) { return nil }
      counts[thread] = read("/proc/self/task/\(thread)/schedstat") ?? ""
    }
    return counts
  }

  private static func read(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var buffer = [UInt8](repeating: 0, count: 1024)
    let count = Foundation.read(descriptor, &buffer, buffer.count)
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
  }
}
