import Testing

@testable import Base

@Suite struct ReportedReasonTests {
  @Test func `a reason is new once, again after another one, and again after a success`() {
    var reported = ReportedReason()
    let reasons = [nil, "a", "a", "b", "a", nil, nil, "a", "a"]
    #expect(reasons.map { reported.isNew($0) } == [false, true, false, true, true, false, false, true, false])
  }
}
