/// Exponential backoff with jitter: retries of a fleet spread over time.
package struct Backoff: Sendable {
  package let base: Duration
  package let cap: Duration

  package init(base: Duration, cap: Duration) {
    self.base = base
    self.cap = cap
  }

  /// The bound for an attempt counted from 0: `base · 2^attempt`, at most `cap`.
  package func bound(_ attempt: Int) -> Duration {
    var bound = min(cap, base)
    // A duration has 128 bits: more doublings reach no further. The comparison with half the cap cannot overflow.
    for _ in 0..<min(max(attempt, 0), 128) where bound < cap { bound = bound > cap / 2 ? cap : bound * 2 }
    return bound
  }

  /// Full jitter: uniform between 0 and the bound (AWS Architecture Blog, "Exponential Backoff and Jitter").
  package func fullJitter(_ attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
    bound(attempt) * Double.random(in: 0...1, using: &generator)
  }

  /// Between half the bound and the bound: for polling, where an immediate retry gains nothing.
  package func halfJitter(_ attempt: Int, using generator: inout some RandomNumberGenerator) -> Duration {
    bound(attempt) * Double.random(in: 0.5...1, using: &generator)
  }
}
