import Base
import Testing

@testable import Artifacts
@testable import Model

/// What an installation creates and removes.
@Suite struct InstallationTests {
  private let ours = FileContent.text(SystemdUnit.header + "\n")

  private func installation(_ change: (inout Installation.Facts) -> Void) -> Installation {
    var facts = Installation.Facts(
      owner: FileOwner(user: 8500, group: 8500, userName: "consul", groupName: "consul"),
      programPath: Installation.programPath,
      consulPath: "/usr/bin/consul", hasSystemd: true, isBootedBySystemd: true, agentUnit: .absent,
      sidecarUnit: .absent, hasConfiguration: false)
    change(&facts)
    return Installation(Settings(), facts, documents: [("/doc", "text")])
  }

  private func titles(_ steps: [Step]) -> Set<String> { Set(steps.map(\.title)) }

  @Test func `units are written where there are none, and never enabled`() {
    let steps = installation { _ in }.steps
    #expect(
      titles(steps).isSuperset(of: [
        "write \(SystemdUnit.path)", "write \(SidecarUnit.path)", "/bin/systemctl daemon-reload", "write /doc",
      ]))
    #expect(!steps.contains { $0.title.contains("enable") || $0.title.contains("start") })
    #expect(installation { $0.owner = nil }.userStep != nil && installation { _ in }.userStep == nil)
  }

  /// A run's unit has its options; only a run renames a unit of another program.
  @Test func `existing units stay unchanged`() {
    let steps = installation {
      $0.agentUnit = .text("[Service]")
      $0.sidecarUnit = ours
    }.steps
    #expect(!steps.contains { if case .writeUnit = $0 { true } else { false } })
  }

  @Test func `an image that is being built has no running systemd`() {
    #expect(!installation { $0.isBootedBySystemd = false }.steps.contains { if case .run = $0 { true } else { false } })
    #expect(!installation { $0.hasSystemd = false }.steps.contains { if case .writeUnit = $0 { true } else { false } })
  }

  @Test func `the program is copied to /usr/local/bin unless a package installed it in /usr/bin`() {
    #expect(
      titles(installation { $0.programPath = "/tmp/x" }.steps).contains(
        "copy /tmp/x to /usr/local/bin/consul-bootstrap"))
    for path in ["/usr/local/bin/consul-bootstrap", "/usr/bin/consul-bootstrap"] {
      let steps = installation { $0.programPath = path }.steps
      #expect(!steps.contains { if case .copyProgram = $0 { true } else { false } })
      #expect(
        steps.contains {
          if case .writeUnit(SidecarUnit.path, let text) = $0 {
            text.contains("ExecStart=\(path) sidecar")
          } else {
            false
          }
        })
    }
  }

  @Test func `a unit that may run an agent stays, whichever program wrote it`() {
    let unused = installation { $0.agentUnit = ours }.removal
    #expect(titles(unused).contains("remove \(SystemdUnit.path)"))
    for facts in [
      { (facts: inout Installation.Facts) in
        facts.agentUnit = self.ours
        facts.hasConfiguration = true
      }, { (facts: inout Installation.Facts) in facts.agentUnit = .text("[Service]") },
    ] {
      #expect(!titles(installation(facts).removal).contains("remove \(SystemdUnit.path)"))
    }
    #expect(!unused.contains { $0.title.contains(Settings().dataDirectory) || $0.title.contains("/etc/consul") })
  }
}
