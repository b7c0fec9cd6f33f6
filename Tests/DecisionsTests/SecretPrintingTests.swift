import Consul
import Testing

@testable import Artifacts
@testable import Base
@testable import Decisions
@testable import Model

/// Whatever prints, dumps or reflects a value that holds a secret shows a mark instead: a debug log line or an
/// assertion must not publish a gossip key.
@Suite struct SecretPrintingTests {
  private static let secrets = [
    "GOSSIP-KEY", "AGENT-TOKEN", "CA-PEM", "KEY-PEM", "OVERLAY-TOKEN", "OLD-KEY", "OLD-TOKEN", "JOIN-SECRET",
  ]

  private static let settings = {
    var settings = Settings()
    settings.aclDefaultPolicy = "deny"
    settings.gossipKey = .ssm(name: "/gossip")
    settings.tls.ca = .ssm(name: "/ca")
    settings.overlays = [
      .init(
        origin: "--merge /etc/acl.json",
        value: [
          "acl": ["tokens": ["default": "OVERLAY-TOKEN"]],
          "retry_join": ["provider=aws secret_access_key=JOIN-SECRET"],
        ])
    ]
    return settings
  }()

  private static let seen = {
    var seen = observation(
      machine(
        systemd: true,
        configuration: CurrentConfiguration(
          .present(Secret(#"{"encrypt": "OLD-KEY", "acl": {"tokens": {"agent": "OLD-TOKEN"}}}"#)))))
    seen.secrets.gossipKey = Secret("GOSSIP-KEY")
    seen.secrets.agentToken = Secret("AGENT-TOKEN")
    seen.secrets.ca = .pem(Secret("CA-PEM"))
    seen.secrets.key = .pem(Secret("KEY-PEM"))
    return seen
  }()

  @Test(arguments: ["plan", "configuration", "file", "current", "settings", "overlay", "secrets", "observation"])
  func `nothing prints, dumps or reflects a secret`(_ name: String) throws {
    let plan = try Plan(Self.seen, Self.settings)
    let values: [String: Any] = [
      "plan": plan, "configuration": plan.configuration, "file": plan.sidecarSteps.configuration,
      "current": plan.currentConfiguration, "settings": Self.settings, "overlay": Self.settings.overlays[0],
      "secrets": Self.seen.secrets, "observation": Self.seen,
    ]
    let value = try #require(values[name])
    var dumped = ""
    dump(value, to: &dumped)
    let shown = ["\(value)", String(reflecting: value), dumped, reflection(value)]
    for text in shown {
      for secret in Self.secrets { #expect(!text.contains(secret), "\(name) shows \(secret)") }
    }
    // The secrets are there: otherwise nothing was tested.
    #expect(plan.configuration.text.value.contains("GOSSIP-KEY"))
    #expect(plan.configuration.text.value.contains("OVERLAY-TOKEN"))
  }

  /// Every leaf that a debugger or a logger would reach by `Mirror`.
  private func reflection(_ value: Any) -> String {
    let children = Mirror(reflecting: value).children
    guard !children.isEmpty else { return "\(value) " }
    return children.map { reflection($0.value) }.joined()
  }
}
