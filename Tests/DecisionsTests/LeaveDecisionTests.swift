import Testing

@testable import Decisions

/// Whether a server may leave: the others must keep their quorum.
@Suite struct LeaveDecisionTests {
  private func view(_ others: String, isVoter: Bool = true) -> QuorumView {
    // `w` is well, `x` is not.
    QuorumView(
      others: others.enumerated().map { index, letter in
        .init(
          id: "id-\(index)", node: "n\(index)", address: "10.0.1.\(index):8300", isWell: letter == "w")
      }, isVoter: isVoter, isLeader: false)
  }

  private enum Word { case leave, wait, stay }

  private func word(
    _ others: String, desired: Int? = nil, isPatient: Bool = false, isTeardown: Bool = false, isVoter: Bool = true
  ) -> Word {
    switch LeaveDecision(
      view(others, isVoter: isVoter), desiredCapacity: desired, isPatient: isPatient, isTeardown: isTeardown)
    {
    case .leave: .leave
    case .wait: .wait
    case .stayAsLast: .stay
    }
  }

  @Test func `a quorum of the others must stay`() {
    #expect(word("wwww") == .leave)
    #expect(word("wwwx") == .leave)
    #expect(word("wwxx") == .wait)
    #expect(word("ww") == .leave)
    #expect(word("wx") == .wait)
    #expect(word("w") == .leave)
    #expect(word("x") == .wait)
  }

  /// Measured: five servers with two dead; after the leave of a third the cluster has four voters, two of them alive.
  @Test func `two dead of five keep a third`() { #expect(word("wwxx") == .wait) }

  @Test func `with time it waits until the others can lose one more`() {
    #expect(word("ww", isPatient: true) == .wait)
    #expect(word("www", isPatient: true) == .leave)
    #expect(word("wwwx", isPatient: true) == .wait)
    #expect(word("wwww", isPatient: true) == .leave)
  }

  /// Nothing will replace it.
  @Test func `a group that wants no more lets it go`() {
    #expect(word("ww", desired: 2, isPatient: true) == .leave)
    #expect(word("ww", desired: 3, isPatient: true) == .wait)
    #expect(word("wx", desired: 1, isPatient: true) == .wait)
    #expect(word("w", desired: 1, isPatient: true) == .leave)
  }

  @Test func `the only voter stays, and the last of a teardown keeps its data`() {
    #expect(word("", desired: 1) == .wait)
    #expect(word("", desired: 0, isTeardown: true) == .stay)
    #expect(word("w", desired: 0, isTeardown: true) == .leave)
    #expect(word("x", desired: 0, isTeardown: true) == .wait)
  }

  /// Blue is emptied before green votes.
  @Test func `the last of a teardown waits for servers that join`() {
    var view = view("")
    view.joining = ["green-1", "green-2"]
    let decision = LeaveDecision(view, desiredCapacity: 0, isPatient: false, isTeardown: true)
    #expect(
      decision == .wait(reason: "this is the only voter: its data would be lost, and green-1, green-2 may join"))
  }

  @Test func `a server without a vote leaves at once`() {
    #expect(word("xxxx", isPatient: true, isVoter: false) == .leave)
    #expect(word("", isVoter: false) == .leave)
  }

  /// Every cluster of up to seven voters, every state of each, every circumstance.
  @Test func `a leave never takes the quorum`() {
    for count in 0...6 {
      for code in 0..<Int(power(2, count)) {
        var rest = code, others = ""
        for _ in 0..<count {
          others.append("wx"[String.Index(utf16Offset: rest % 2, in: "wx")])
          rest /= 2
        }
        let well = others.count { $0 == "w" }
        for isPatient in [true, false] {
          for (desired, isTeardown) in [(nil, false), (0, true), (0, false), (3, false)] as [(Int?, Bool)] {
            let word = word(others, desired: desired, isPatient: isPatient, isTeardown: isTeardown)
            if word == .leave { #expect(well >= count / 2 + 1, "\(others)") }
            if word == .stay { #expect(count == 0 && isTeardown) }
          }
        }
      }
    }
  }

  private func power(_ base: Int, _ exponent: Int) -> Int { (0..<exponent).reduce(1) { result, _ in result * base } }
}
