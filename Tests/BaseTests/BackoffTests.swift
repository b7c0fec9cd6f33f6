import TestSupport
import Testing

@testable import Base

@Suite struct BackoffTests {
  @Test func `the bound doubles up to the cap`() {
    let backoff = Backoff(base: .milliseconds(100), cap: .seconds(1))
    #expect((0...5).map(backoff.bound) == [100, 200, 400, 800, 1000, 1000].map { .milliseconds($0) })
  }

  /// Guards against a multiplication that overflows: an endless retry counts on, and an interval is what a user sets.
  @Test func `no attempt and no interval overflows`() {
    let backoff = Backoff(base: .seconds(Int64.max), cap: .seconds(Int64.max))
    for attempt in [Int.min, -1, 0, 1, 20, 64, Int.max] { #expect(backoff.bound(attempt) == .seconds(Int64.max)) }
    let short = Backoff(base: .milliseconds(1), cap: .seconds(Int64.max))
    #expect(short.bound(.min) == .milliseconds(1))
    #expect(short.bound(.max) == .seconds(Int64.max))
    #expect(Backoff(base: .seconds(5), cap: .seconds(2)).bound(0) == .seconds(2))
    let longest = Duration.seconds(Int64.max) * 18
    #expect(Backoff(base: longest - .seconds(1), cap: longest).bound(1) == longest)
    #expect(Backoff(base: .zero, cap: .seconds(2)).bound(.max) == .zero)
  }

  @Test func `jitter stays inside its bounds`() {
    var generator = SeededGenerator.fromEnvironment()
    let backoff = Backoff(base: .milliseconds(100), cap: .seconds(20))
    for attempt in 0..<200 {
      let bound = backoff.bound(attempt)
      let full = backoff.fullJitter(attempt, using: &generator), half = backoff.halfJitter(attempt, using: &generator)
      #expect(.zero <= full && full <= bound)
      #expect(bound / 2 <= half && half <= bound)
    }
  }
}
