import Testing

@testable import AWS
@testable import Base

/// When and how often `AWSClient` tries again.
@Suite(.timeLimit(.minutes(5))) struct RetryTests {
  typealias Bench = AWSClientTests.Bench
  private static let error = AWSClientTests.error

  /// Full jitter is random: the longest of many waits is near its bound, and none is beyond it.
  @Test(arguments: [("Throttling", [500, 1000, 2000, 4000]), ("InternalError", [100, 200, 400, 800])])
  func `the bounds of the waits double`(_ code: String, _ bounds: [Int]) async {
    var longest = [Duration](repeating: .zero, count: bounds.count)
    for _ in 0..<100 {
      let status = code == "InternalError" ? 500 : 400
      let bench = Bench(Array(repeating: answer(status, Self.error(code)), count: 5))
      await #expect(throws: AWSError.self) { try await bench.describe() }
      #expect(bench.clock.sleeps.count == bounds.count)
      longest = zip(longest, bench.clock.sleeps).map { max($0, $1) }
    }
    for (wait, bound) in zip(longest, bounds) {
      #expect(wait <= .milliseconds(bound) && wait > .milliseconds(bound / 2))
    }
  }

  @Test func `a retry after an error of the service costs half of one after no answer`() async {
    // 500 tokens, 5 an answer: at most 100 retries over all calls, one call of 10 attempts takes 45.
    let bench = Bench(Array(repeating: answer(500), count: 200), attempts: 10)
    for _ in 0..<20 { await #expect(throws: AWSError.self) { try await bench.describe() } }
    #expect(bench.transport.requests.count == 120)
  }

  @Test(arguments: [TransportError.bodyTooLarge(limit: 1), .tls("certificate has expired")])
  func `what another attempt cannot change is not tried again`(_ error: TransportError) async {
    let bench = Bench([failure(error)])
    await #expect { try await bench.describe() } throws: { ($0 as? AWSError)?.attempts == 1 }
    #expect(bench.transport.requests.count == 1 && bench.clock.sleeps.isEmpty)
  }

  /// Guards against a loop between two servers with different clocks.
  @Test func `the clock is corrected once in a call`() async {
    let dates = ["Fri, 02 Jan 2026 03:34:05 GMT", "Fri, 02 Jan 2026 05:04:05 GMT"]
    let bench = Bench(dates.map { answer(403, Self.error("SignatureDoesNotMatch"), headers: ["date": $0]) })
    await #expect { try await bench.describe() } throws: { ($0 as? AWSError)?.kind == .signature }
    #expect(bench.transport.requests.count == 2)
  }
}
