import Base
import Decisions
import Testing

/// i-0dead has failed for a minute beside this instance, i-0own.
@Suite struct DeathVerdictTests {
  private struct World {
    var failedFor: Duration? = .seconds(60)
    var instanceID: String? = "i-0dead"
    var probe: ProbeResult? = .silent
    var twins: [String] = []
    var wasKnown = true
    var first: [String: String]? = ["i-0own": "running", "i-0dead": "terminated"]
    var second: [String: String]? = ["i-0own": "running", "i-0dead": "terminated"]
    /// In the first call.
    var asked: Set<String> = ["i-0own", "i-0dead"]
    /// Between the two calls.
    var pause = Duration.seconds(15)
    var lifecycleStates: [String: String]? = ["i-0own": "InService"]
    var rules = DeathVerdict.Rules()

    var verdict: DeathVerdict {
      DeathVerdict(
        of: SuspectedNode(
          node: "s9", instanceID: instanceID, failedFor: failedFor, probe: probe, livingTwins: twins,
          wasKnown: wasKnown),
        own: "i-0own",
        first: first.map {
          InstanceAnswer(askedAt: .seconds(100), answeredAt: .seconds(101), instances: asked, states: $0)
        },
        second: second.map {
          InstanceAnswer(
            askedAt: .seconds(101) + pause, answeredAt: .seconds(102) + pause, instances: ["i-0own", "i-0dead"],
            states: $0)
        }, lifecycleStates: lifecycleStates, rules: rules)
    }
  }

  private func verdict(_ change: (inout World) -> Void) -> DeathVerdict {
    var world = World()
    change(&world)
    return world.verdict
  }

  @Test func `an instance that EC2 twice reports as terminated is gone`() {
    #expect(
      World().verdict
        == .gone(
          evidence: "i-0dead is terminated by two answers that report i-0own as running, failed for 60 s, "
            + "not served by Auto Scaling, and its gossip port does not answer"))
  }

  @Test(arguments: [ProbeResult.refused, .silent, .unreachable("no route to host")])
  func `a port that does not accept a connection is no life`(_ probe: ProbeResult) {
    #expect(verdict { $0.probe = probe }.isGone)
  }

  @Test func `a member that gossip knows as alive is alive, whatever EC2 says`() {
    #expect(verdict { $0.failedFor = nil } == .alive(reason: "gossip does not know it as failed"))
  }

  @Test func `a paused agent whose port accepts connections is alive`() {
    #expect(verdict { $0.probe = .open } == .alive(reason: "its gossip port accepts connections"))
    #expect(verdict { $0.probe = nil } == .unknown(reason: "its gossip port has not been probed"))
  }

  @Test func `this instance is never gone`() {
    #expect(verdict { $0.instanceID = "i-0own" } == .alive(reason: "i-0own is this instance"))
  }

  @Test func `a node without an instance is unknown`() {
    #expect(
      verdict { $0.instanceID = nil }
        == .unknown(reason: "it does not name its instance (node_meta.instance_id)"))
  }

  /// A new instance may have the address of the old.
  @Test func `a living member with the address or the instance ID leaves it unknown`() {
    #expect(
      verdict { $0.twins = ["s12"] }
        == .unknown(reason: "s12 is alive and has its address or its instance ID"))
  }

  @Test func `a failure of less than 30 s is unknown`() {
    #expect(
      verdict { $0.failedFor = .milliseconds(29_999) } == .unknown(reason: "it has failed for less than 30 s"))
    #expect(verdict { $0.failedFor = .seconds(30) }.isGone)
  }

  @Test func `one answer is no proof`() {
    #expect(verdict { $0.first = nil } == .unknown(reason: "EC2 has not answered twice"))
    #expect(verdict { $0.second = nil } == .unknown(reason: "EC2 has not answered twice"))
  }

  /// It would be missing from an answer that it was not asked for, and count as forgotten.
  @Test func `an answer to a call that did not name the instance is no answer`() {
    let control = ["i-0own": "running"]
    #expect(
      verdict { ($0.first, $0.second, $0.failedFor, $0.asked) = (control, control, .seconds(9000), ["i-0own"]) }
        == .unknown(reason: "EC2 has not answered twice"))
  }

  @Test func `two answers within 15 s are one sighting; the interval is a parameter`() {
    #expect(
      verdict { $0.pause = .milliseconds(14_999) }
        == .unknown(reason: "EC2's two answers are less than 15 s apart"))
    #expect(verdict { ($0.pause, $0.rules) = (.seconds(5), DeathVerdict.Rules(interval: .seconds(5))) }.isGone)
  }

  /// The answer of another region or account, an empty one, and one of an API that has lost its data.
  @Test(arguments: [nil, "pending", "stopped", "terminated"])
  func `an answer without its control proves nothing`(_ state: String?) {
    for isFirst in [true, false] {
      let states = ["i-0own": state, "i-0dead": "terminated"].compactMapValues { $0 }
      let words = state.map { "as \($0)" } ?? "not at all"
      #expect(
        verdict { world in if isFirst { world.first = states } else { world.second = states } }
          == .unknown(reason: "EC2 reports this instance, i-0own, \(words): its answer proves nothing"))
    }
  }

  @Test(arguments: ["pending", "running", "shutting-down", "stopping", "stopped", "Terminated", ""])
  func `every other state may come back`(_ state: String) {
    for isFirst in [true, false] {
      let states = ["i-0own": "running", "i-0dead": state]
      #expect(
        verdict { world in if isFirst { world.first = states } else { world.second = states } }
          == .unknown(reason: "EC2 reports i-0dead as \(state)"))
    }
  }

  /// EC2 forgets a terminated instance after about an hour, and does not know one that is too new.
  @Test func `an instance that EC2 does not know is gone once it has failed for two hours and no group lists it`() {
    let control = ["i-0own": "running"]
    #expect(
      verdict { ($0.first, $0.second) = (control, control) }
        == .unknown(reason: "EC2 does not know i-0dead, which counts once it has failed for 2 h"))
    #expect(!verdict { ($0.first, $0.second, $0.failedFor) = (control, control, .seconds(7199)) }.isGone)
    let old = verdict { ($0.first, $0.second, $0.failedFor) = (control, control, .seconds(7200)) }
    #expect(
      old
        == .gone(
          evidence: "i-0dead is no longer known to EC2 by two answers that report i-0own as running, failed for "
            + "7200 s, not served by Auto Scaling, and its gossip port does not answer"))
    #expect(
      verdict {
        ($0.first, $0.second, $0.failedFor) = (control, control, .seconds(7200))
        $0.lifecycleStates = ["i-0dead": "Terminating"]
      } == .unknown(reason: "Auto Scaling lists i-0dead as Terminating"))
  }

  /// One of another account or region is absent from every answer, however long it has failed.
  @Test func `an instance that EC2 has never known is unknown`() {
    let control = ["i-0own": "running"], doubt = "EC2 has never known i-0dead: it may be of another account or region"
    for failedFor in [Duration.seconds(60), .seconds(7200), .seconds(864_000)] {
      #expect(
        verdict { ($0.first, $0.second, $0.failedFor, $0.wasKnown) = (control, control, failedFor, false) }
          == .unknown(reason: doubt))
    }
    #expect(verdict { $0.wasKnown = false }.isGone)
  }

  @Test func `where Auto Scaling has not answered, nothing is proven`() {
    #expect(
      verdict { $0.lifecycleStates = nil }
        == .unknown(reason: "Auto Scaling has not answered whether it lists i-0dead"))
  }

  @Test(arguments: ["InService", "Pending", "Pending:Wait", "Pending:Proceed"])
  func `an instance that its group counts is unknown`(_ state: String) {
    #expect(
      verdict { $0.lifecycleStates = ["i-0dead": state] }
        == .unknown(reason: "Auto Scaling lists i-0dead as \(state)"))
  }

  /// A group keeps a dead instance in its list until its hooks and checks are over.
  @Test(arguments: ["Terminating", "Terminating:Wait", "Terminated", "Detached", "Standby"])
  func `an instance that its group gives up is gone`(_ state: String) {
    #expect(verdict { $0.lifecycleStates = ["i-0dead": state] }.isGone)
  }

  /// All combinations of what the network, gossip and AWS say: gone only where nothing contradicts.
  @Test func `gone needs every part of the proof`() {
    let answers: [[String: String]?] = [
      nil, [:], ["i-0own": "running"], ["i-0dead": "terminated"], ["i-0own": "stopped", "i-0dead": "terminated"],
      ["i-0own": "running", "i-0dead": "running"], ["i-0own": "running", "i-0dead": "shutting-down"],
      ["i-0own": "running", "i-0dead": "terminated"],
    ]
    let failures: [Duration?] = [nil, .zero, .seconds(29), .seconds(30), .seconds(7199), .seconds(7200)]
    let probes: [ProbeResult?] = [nil, .open, .refused, .silent, .unreachable("down")]
    let groups: [[String: String]?] = [nil, [:], ["i-0dead": "InService"], ["i-0dead": "Terminating:Wait"]]
    var gone = 0, all = 0
    for first in answers {
      for second in answers {
        for failedFor in failures {
          for probe in probes {
            for group in groups {
              for twins in [[], ["s12"]] {
                for id in ["i-0dead", "i-0own", nil] {
                  for pause in [Duration.seconds(14), .seconds(15)] {
                    all += 1
                    var world = World(), verdict = DeathVerdict.unknown(reason: "")
                    (world.first, world.second, world.failedFor, world.probe) = (first, second, failedFor, probe)
                    (world.lifecycleStates, world.twins, world.instanceID) = (group, twins, id)
                    world.pause = pause
                    verdict = world.verdict
                    guard verdict.isGone else { continue }
                    gone += 1
                    let states = [first?["i-0dead"], second?["i-0dead"]]
                    let isOld = failedFor.map { $0 >= .seconds(7200) } ?? false
                    #expect(first?["i-0own"] == "running" && second?["i-0own"] == "running")
                    #expect(states.allSatisfy { $0 == "terminated" || $0 == nil && isOld })
                    #expect(failedFor.map { $0 >= .seconds(30) } ?? false)
                    #expect(probe != nil && probe != .open && twins.isEmpty && id == "i-0dead")
                    #expect(group != nil && group?["i-0dead"] != "InService")
                    #expect(states.allSatisfy { $0 != nil } || group?["i-0dead"] == nil)
                    #expect(pause == .seconds(15))
                  }
                }
              }
            }
          }
        }
      }
    }
    // 3 ages with both answers, of which one also takes the 3 pairs with a missing one; 3 probes.
    #expect(all == 92_160 && gone == 3 * 3 * 2 + 3 * 3)
  }

  /// Every part of what is seen of an instance that runs, with any one part false or missing: it is never gone.
  @Test func `no single lie makes an instance gone that runs`() {
    var truth = World()
    truth.failedFor = nil
    truth.probe = .open
    truth.first = ["i-0own": "running", "i-0dead": "running"]
    truth.second = truth.first
    truth.lifecycleStates = ["i-0own": "InService", "i-0dead": "InService"]
    let control = ["i-0own": "running"], terminated = ["i-0own": "running", "i-0dead": "terminated"]
    let lies: [(inout World) -> Void] = [
      // EC2 as a whole, in both answers.
      { ($0.first, $0.second) = (terminated, terminated) }, { ($0.first, $0.second) = (control, control) },
      { ($0.first, $0.second) = ([:], [:]) }, { ($0.first, $0.second) = (nil, nil) },
      { ($0.first, $0.second) = (["i-0dead": "terminated"], ["i-0dead": "terminated"]) },
      // Auto Scaling.
      { $0.lifecycleStates = [:] }, { $0.lifecycleStates = nil }, { $0.lifecycleStates?["i-0dead"] = "Terminated" },
      // Gossip: paused, or cut off.
      { $0.failedFor = .seconds(60) }, { $0.failedFor = .seconds(86_400) },
      // The network.
      { $0.probe = .silent }, { $0.probe = .refused }, { $0.probe = .unreachable("down") }, { $0.probe = nil },
      // The node's own name for its instance.
      { $0.instanceID = "i-0other" }, { $0.instanceID = nil },
    ]
    for lie in lies {
      var world = truth
      lie(&world)
      #expect(!world.verdict.isGone)
      // Cut off for a day as well, gossip and the port agree: then EC2, or the node about its ID, has to lie.
      (world.failedFor, world.probe) = (world.failedFor ?? .seconds(86_400), .silent)
      let liesAboutState = world.first == terminated || world.first == control || world.instanceID == "i-0other"
      let isListed = world.instanceID == "i-0dead" && world.lifecycleStates?["i-0dead"] == "InService"
      #expect(!world.verdict.isGone || liesAboutState && !isListed)
    }
  }
}
