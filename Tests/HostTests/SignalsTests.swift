import Glibc
import Synchronization
import Testing

@testable import Base
@testable import Host

/// Each body runs in a process of its own.
@Suite(.timeLimit(.minutes(5))) struct SignalsTests {
  @Test func `signals from before the handler are delivered once, later ones as they come`() async {
    await #expect(processExitsWith: .success) {
      let signals = try Signals(), received = ReceivedSignals()
      // To the process: the threads of the concurrency runtime block signals.
      expect("kill", kill(getpid(), SIGHUP), is: 0)
      // The kernel would merge the two.
      _ = await eventually { signals.pending == [SIGHUP] }
      for number in [SIGHUP, SIGTERM] { expect("kill", kill(getpid(), number), is: 0) }
      _ = await eventually { signals.pending.contains(SIGTERM) }
      signals.deliver { received.append($0) }
      // In any order: whichever thread takes a signal first.
      expect("early signals", received.all.sorted(), is: [SIGHUP, SIGTERM])
      expect("kill", kill(getpid(), SIGINT), is: 0)
      _ = await eventually { received.all.last == SIGINT }
      expect("late signal", received.all.last, is: SIGINT)
    }
  }

  // The kernel discards the exit statuses of children then: a program that failed looked like one that succeeded.
  @Test func `a parent that ignored SIGCHLD does not hide exit statuses`() async {
    await #expect(processExitsWith: .success) {
      signal(SIGCHLD, SIG_IGN)
      _ = try Signals()
      let result = try await PosixProcessLauncher(environment: [:]).run(sh("exit 3"), timeout: .seconds(20))
      expect("end", result.end, is: .exited(3))
    }
  }

  @Test func `an exit status that is lost is no success`() async {
    await #expect(processExitsWith: .success) {
      signal(SIGCHLD, SIG_IGN)
      let result = try await PosixProcessLauncher(environment: [:]).run(sh("exit 0"), timeout: .seconds(20))
      expect("end", result.end, is: .exited(255))
    }
  }

  @Test func `a reader that goes away does not end the process`() async {
    await #expect(processExitsWith: .success) {
      _ = try Signals()
      let pipe = try createPipe()
      pipe.reader.close()
      expect("write", writeAll([1], to: pipe.writer.number), is: EPIPE)
    }
  }
}

private final class ReceivedSignals: Sendable {
  private let numbers = Mutex<[Int32]>([])
  var all: [Int32] { numbers.withLock { $0 } }
  func append(_ number: Int32) { numbers.withLock { $0.append(number) } }
}
