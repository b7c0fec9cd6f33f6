import Base
import Model
import TestSupport
import Testing

@testable import Sidecar

@Suite(.timeLimit(.minutes(5))) struct SecretWatchTests {
  private static let oldKey = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
  private static let newKey = "MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
  private static let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
  private static let otherCertificate = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n"
  private static let ca = "/etc/consul.d/tls/ca.pem"

  private static let keyHasChanged =
    "warning ssm:/gossip has changed since this agent was configured "
    + #"hint="install the new key everywhere with consul keyring -install, then -use: an agent keeps the keys of its "#
    + #"keyring""#
  private static let tokenHasChanged =
    "warning ssm:/token has changed since this agent was configured "
    + #"hint="run consul-bootstrap again, and restart the agent""#
  private static let caHasChanged =
    "warning secretsmanager:ca has changed since this agent was configured "
    + #"hint="run consul-bootstrap again, and restart the agent""#

  private var sidecar: SidecarFixture

  init() {
    sidecar = SidecarFixture()
    sidecar.settings.sidecarInterval = .seconds(1)
    sidecar.context.files.put(
      SidecarFixture.configuration,
      """
      {"bind_addr": "10.0.1.10", "encrypt": "\(Self.oldKey)", "acl": {"tokens": {"agent": "old-token"}}}
      """)
    sidecar.context.files.put(Self.ca, Self.certificate)
    sidecar.aws.setParameter("/gossip", Self.oldKey)
    sidecar.aws.setParameter("/token", "old-token")
    sidecar.aws.setSecret("ca", Self.certificate)
  }

  /// Waits until every secret has been read so many times and what was found is logged.
  private func checks(_ count: Int) async throws {
    try await sidecar.aws.call("GetSecretValue", number: count)
    try await sidecar.context.clock.settle()
  }

  private func allSecrets() -> SidecarFixture {
    var sidecar = sidecar
    sidecar.settings.gossipKey = .ssm(name: "/gossip")
    sidecar.settings.agentToken = .ssm(name: "/token")
    sidecar.settings.tls.ca = .secretsManager(id: "ca", key: nil)
    return sidecar
  }

  /// An error of AWS alone names neither what was to be done nor the kind of the cause.
  @Test func `secrets that cannot be read now are reported with the purpose and the hint`() async throws {
    let sidecar = allSecrets()
    sidecar.aws.refuse("GetParameter", .throttled)
    try await sidecar.whileStaying { _ in
      // Five attempts of one call.
      try await sidecar.aws.call("GetParameter", number: 5)
      try await sidecar.context.clock.settle()
      #expect(
        sidecar.log.first?.hasPrefix(
          #"warning the sidecar cannot check ssm:/gossip for a change; retrying reason="cannot read ssm:/gossip: "#
            + "throttled; ") == true)
      #expect(sidecar.log.first?.contains("hint: retry later") == true)
    }
  }

  /// A rotated secret that is not reported keeps every new agent out of the cluster.
  @Test func `each changed secret is reported once, and again after it changed back and forth`() async throws {
    let sidecar = allSecrets()
    try await sidecar.whileStaying { _ in
      try await checks(1)
      #expect(sidecar.log == [])
      sidecar.aws.setParameter("/gossip", Self.newKey)
      sidecar.aws.setParameter("/token", "new-token")
      sidecar.aws.setSecret("ca", Self.otherCertificate)
      try await checks(4)
      let all = [Self.keyHasChanged, Self.tokenHasChanged, Self.caHasChanged]
      #expect(sidecar.log == all)
      sidecar.aws.setParameter("/gossip", Self.oldKey)
      try await checks(5)
      sidecar.aws.setParameter("/gossip", Self.newKey)
      try await checks(7)
      #expect(sidecar.log == all + [Self.keyHasChanged])
    }
    #expect(sidecar.changes.isEmpty)
  }

  @Test func `the secrets are read at every tenth poll`() async throws {
    var sidecar = allSecrets()
    sidecar.settings.role = .client
    sidecar.agent.set { $0.members.append(.init("server", "10.0.1.1")) }
    try await sidecar.whileStaying { _ in
      try await sidecar.polls(20)
      try await sidecar.context.clock.settle()
    }
    #expect(sidecar.aws.calls("GetSecretValue").count == 2)
  }

  /// An unreadable file counted as an unchanged secret.
  @Test func `a PEM file that cannot be read is reported once for each reason`() async throws {
    let sidecar = allSecrets()
    sidecar.context.files.fail(.read, Self.ca, errno: 13)
    try await sidecar.whileStaying { _ in
      try await checks(3)
      #expect(
        sidecar.log == [
          "warning the sidecar cannot check secretsmanager:ca for a change; retrying "
            + #"reason="read \#(Self.ca): Permission denied""#
        ])
      sidecar.context.files.recover(.read, Self.ca)
      try await checks(4)
      sidecar.context.files.fail(.read, Self.ca, errno: 13)
      try await checks(5)
      #expect(sidecar.log.count == 2)
    }
  }

  @Test func `a PEM file that does not exist is no change`() async throws {
    let sidecar = allSecrets()
    sidecar.context.files.delete(Self.ca)
    try await sidecar.whileStaying { _ in try await checks(2) }
    #expect(sidecar.log == [])
  }

  /// The first secret that could not be read hid the changes of the others.
  @Test func `a secret that AWS refuses is reported, the others are compared, and it is read again later`()
    async throws
  {
    let sidecar = allSecrets()
    sidecar.aws.refuse("GetParameter", .accessDenied, times: 1)
    sidecar.aws.setParameter("/gossip", Self.newKey)
    sidecar.aws.setParameter("/token", "new-token")
    try await sidecar.whileStaying { _ in
      try await checks(1)
      #expect(
        sidecar.log == [
          "warning the sidecar cannot check ssm:/gossip for a change; retrying reason=\"cannot read the gossip key, "
            + "ssm:/gossip: access denied; SSM GetParameter answered AccessDenied (HTTP 403): not authorized; "
            + "hint: allow ssm:GetParameter for role web\"",
          Self.tokenHasChanged,
        ])
      try await checks(2)
    }
    #expect(sidecar.log.dropFirst(2) == [Self.keyHasChanged])
  }

  /// The key of `--gossip-key-create` while no server has created it yet.
  @Test func `a gossip key that does not exist yet is no change`() async throws {
    var sidecar = allSecrets()
    sidecar.settings.gossipKey = .ssm(name: "/absent")
    sidecar.settings.createsGossipKey = true
    try await sidecar.whileStaying { _ in try await checks(2) }
    #expect(sidecar.log.isEmpty)
  }

  @Test func `without secrets in AWS nothing is read`() async throws {
    var sidecar = sidecar
    sidecar.settings.role = .client
    sidecar.agent.set { $0.members.append(.init("server", "10.0.1.1")) }
    try await sidecar.whileStaying { _ in try await sidecar.polls(12) }
    #expect(sidecar.aws.calls.isEmpty)
  }

  /// The warning was repeated for each request to the agent, up to three times a poll.
  @Test func `an unreadable configuration is reported once for each reason`() async throws {
    let sidecar = allSecrets()
    sidecar.context.files.fail(.read, SidecarFixture.configuration, errno: 5)
    try await sidecar.whileStaying { _ in
      try await checks(3)
      #expect(
        sidecar.log == [
          "warning cannot read the agent's configuration "
            + #"reason="read \#(SidecarFixture.configuration): Input/output error""#
        ])
    }
  }
}
