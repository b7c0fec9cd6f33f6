import Base
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(5))) struct ClockTests {
  private let clock = TestClock()

  @Test func `sleepers wake in the order of their deadlines, whatever the order in which they began`() async throws {
    let order = Watched<[String]>([])
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (name, seconds) in [("ten minutes", 600), ("a second", 1), ("an hour", 3600), ("a minute", 60)] {
        group.addTask { [clock] in
          try await clock.sleep(for: .seconds(seconds))
          order.update { $0.append("\(name) at \(clock.uptime().components.seconds)") }
        }
      }
      try await group.waitForAll()
    }
    #expect(
      order.value == ["a second at 1", "a minute at 60", "ten minutes at 600", "an hour at 3600"])
  }

  @Test func `a loop that polls sees the time pass step by step`() async throws {
    var times: [Duration] = []
    for _ in 0..<3 {
      try await clock.sleep(for: .seconds(5))
      times.append(clock.uptime())
    }
    #expect(times == [.seconds(5), .seconds(10), .seconds(15)])
    #expect(clock.wall() == Timestamp(seconds: 1_767_225_600 + 15))
  }

  @Test func `a cancelled sleep ends at once and leaves the time as it is`() async throws {
    let sleeping = Gate()
    let task = Task {
      sleeping.open()
      try await clock.sleep(for: .seconds(3600))
    }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(clock.uptime() == .zero)
  }

  @Test func `a sleep in a task that is cancelled already ends at once`() async {
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await clock.sleep(for: .seconds(3600))
    }
    await #expect(throws: CancellationError.self) { try await task.value }
    #expect(clock.uptime() == .zero)
  }

  @Test func `the loser of a race with a timeout does not move the time to its deadline`() async throws {
    let winner = try await withThrowingTaskGroup(of: String.self) { group in
      group.addTask {
        try await clock.sleep(for: .seconds(600))
        return "timeout"
      }
      group.addTask {
        for _ in 0..<20 { try await clock.sleep(for: .seconds(1)) }
        return "work"
      }
      defer { group.cancelAll() }
      return try await group.next()
    }
    #expect(winner == "work")
    #expect(clock.uptime() == .seconds(20))
  }

  @Test func `setting the wall clock back does not touch intervals`() async throws {
    clock.setWall(by: .seconds(-3600))
    try await clock.sleep(for: .seconds(5))
    #expect(clock.uptime() == .seconds(5))
    #expect(clock.wall() == Timestamp(seconds: 1_767_225_600 - 3600 + 5))
  }

  /// The flow computes for longer than any number of yields while its timeout sleeps: that timeout must not come early.
  @Test func `a task that computes holds the time`() async throws {
    let winner = try await withThrowingTaskGroup(of: String.self) { group in
      group.addTask {
        try await clock.sleep(for: .seconds(600))
        return "timeout"
      }
      group.addTask {
        try await clock.sleep(for: .seconds(1))
        var generator = SeededGenerator(seed: 1)
        let end = ContinuousClock.now + .milliseconds(30)
        while ContinuousClock.now < end { _ = generator.next() }
        try await clock.sleep(for: .seconds(1))
        return "work"
      }
      defer { group.cancelAll() }
      return try await group.next()
    }
    #expect(winner == "work")
    #expect(clock.uptime() == .seconds(2))
  }
}

@Suite(.timeLimit(.minutes(5))) struct SeededGeneratorTests {
  @Test func `a seed repeats its numbers`() {
    var first = SeededGenerator(seed: 7), second = SeededGenerator(seed: 7), other = SeededGenerator(seed: 8)
    let numbers = (0..<100).map { _ in first.next() }
    #expect(numbers == (0..<100).map { _ in second.next() })
    #expect(numbers != (0..<100).map { _ in other.next() })
    #expect(Set(numbers).count == 100)
  }
}
