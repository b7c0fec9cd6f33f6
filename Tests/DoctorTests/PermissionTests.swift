import AWS
import Base
import Model
import TestSupport
import Testing

@testable import Artifacts
@testable import Doctor

/// What the doctor tries is what `iam-policy` grants.
@Suite(.timeLimit(.minutes(5))) struct PermissionTests {
  /// Settings that together need every action.
  enum Case: String, CaseIterable {
    case ownGroup, hook, secrets, createdKey, logs, logsNamedAfterGroup, logAgent, record
  }

  private func doctor(_ variant: Case) -> DoctorFixture {
    var doctor = DoctorFixture()
    switch variant {
    case .ownGroup: break
    case .hook:
      doctor.settings.lifecycleHook = "launching"
      doctor.settings.membership = .groups(["web"])
      doctor.aws.setGroups([FakeGroup(desired: 1, hooks: ["launching"])])
    case .secrets:
      doctor.settings.gossipKey = .ssm(name: "/gossip")
      doctor.settings.agentToken = .secretsManager(id: "token", key: nil)
      doctor.aws.setParameter("/gossip", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
      doctor.aws.setSecret("token", "example-token")
    case .record:
      doctor.settings.clusterRecord = "/consul/web"
      doctor.aws.setParameter("/consul/web/000001", #"{"state":"closed"}"#)
    case .createdKey:
      doctor.settings.gossipKey = .ssm(name: "/gossip")
      doctor.settings.createsGossipKey = true
    case .logs:
      doctor.settings.logs = [.init(source: .consul)]
      doctor.settings.logRetention = 7
      doctor.settings.logTags = [.init(key: "team", value: "platform")]
    case .logsNamedAfterGroup:
      doctor.settings.logs = [.init(source: .consul)]
      doctor.settings.logGroup = "/x/{group}"
      doctor.settings.membership = .tags([.init(key: "Name", value: "consul")])
      doctor.settings.expect = 1
      doctor.aws.setInstances([FakeInstance("i-0aaa", ip: "10.0.1.10", tags: ["Name": "consul"])])
    case .logAgent:
      doctor.settings.logs = [.init(source: .bootstrap)]
      doctor.settings.logAgent = .awslogs
    }
    return doctor
  }

  @Test func `the cases need every action`() {
    let needed = Set(Case.allCases.flatMap { IAMPermission.actions(for: doctor($0).settings) })
    #expect(needed == Set(IAMPermission.all.map(\.action)))
  }

  /// Where each condition was written twice, `--tag` with {group} in a log group needed DescribeAutoScalingInstances,
  /// whose endpoint was not probed, and whose call was not reported.
  @Test(arguments: Case.allCases)
  func `an allowed action is reported as such, and its endpoint is probed`(_ variant: Case) async throws {
    let doctor = doctor(variant), findings = try await doctor.run()
    let needed = IAMPermission.actions(for: doctor.settings)
    for action in needed {
      let isRead = action == .getParameter || action == .getSecretValue
      let subject = isRead ? (variant == .record ? "record" : "secret") : action.iamAction
      let reported = lines(findings.filter { $0.subject == subject })
      if let reason = AWSChecks.reasonNotToTry(action, doctor.settings) {
        #expect(reported == ["note \(action.iamAction): not tried: \(reason)"])
      } else {
        #expect(!reported.isEmpty && reported.allSatisfy { $0.hasPrefix("ok ") }, "\(action.iamAction)")
      }
    }
    let probed = findings.filter { $0.subject.hasPrefix("endpoint ") }.map { String($0.subject.dropFirst(9)) }
    #expect(Set(probed) == Set(needed.map(\.service.name)))
    #expect(Set(doctor.aws.calls.map(\.action)).isSubset(of: needed.map(\.name)), "the policy does not allow it")
  }

  @Test(arguments: Case.allCases)
  func `an action that is refused is a problem that names it`(_ variant: Case) async throws {
    for action in IAMPermission.actions(for: doctor(variant).settings) {
      let doctor = doctor(variant)
      guard AWSChecks.reasonNotToTry(action, doctor.settings) == nil else { continue }
      doctor.aws.refuse(action.name, .accessDenied)
      let problems = lines(try await doctor.run().filter { $0.severity == .problem })
      #expect(problems.contains { $0.hasSuffix("hint: allow \(action.iamAction) for role web-node") }, "\(problems)")
    }
  }

  /// Any error of the call got the hint to allow it.
  @Test func `a call that fails for another reason keeps its own hint`() async throws {
    let doctor = doctor(.logsNamedAfterGroup)
    doctor.aws.refuse("DescribeAutoScalingInstances", .throttled)
    let problems = lines(try await doctor.run().filter { $0.severity == .problem })
    #expect(problems.count == 1)
    #expect(problems.first?.contains("hint: retry later") == true)
  }

  @Test func `an action that what exists makes unnecessary is reported as such`() async throws {
    let logs = doctor(.logs), key = doctor(.createdKey)
    logs.aws.createLogStream(group: "/consul/dc1", stream: "other")
    for action in ["logs:CreateLogGroup", "logs:PutRetentionPolicy"] {
      #expect(try await logs.findings(action) == ["ok \(action): not needed: log group /consul/dc1 exists"])
    }
    key.aws.setParameter("/gossip", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    #expect(try await key.findings("ssm:PutParameter") == ["ok ssm:PutParameter: not needed: ssm:/gossip exists"])
  }
}
