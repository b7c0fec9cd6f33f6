/// Waiting times that grow exponentially and are drawn at random, so that a fleet does not move in step.
package struct Backoff: Sendable {
  package let base: Duration
  package let cap: Duration

  package init(base: Duration, cap: Duration) {
    self.base = base
    self.cap = cap
  }

  /// The bound for an attempt counted from 0: `base · 2^attempt`, at most `cap`.
  package func bound(_ attempt: Int) -> Duration {
    min(cap, base * (1 << min(attempt, 20)))
  }

  /// Full jitter: uniform between 0 and the bound (AWS Architecture Blog, "Exponential Backoff and Jitter").
  package func fullJitter(_ attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
    bound(attempt) * Double.random(in: 0...1, using: &generator)
  }

  /// Between half the bound and the bound: for polling, where asking at once again gains nothing.
  package func halfJitter(_ attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
    bound(attempt) * Double.random(in: 0.5...1, using: &generator)
  }
}
