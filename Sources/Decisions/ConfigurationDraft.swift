internal import Artifacts
internal import Base
internal import Consul
package import Model

extension Plan {
  /// The configuration of a server's first boot before the other servers are known, for Consul to validate meanwhile:
  /// `ConfigurationFile.isCovered` compares the one that is written with it.
  /// - Returns: nil where a run may keep what is there, and for Consul in an image, which is too slow to start twice.
  package static func draft(_ observation: Observation, _ settings: Settings) -> ConfigurationFile? {
    let machine = observation.machine
    guard settings.role == .server, settings.image == nil, case .absent = machine.configuration.content,
      machine.dataDirectory.raftState == .none, !machine.agentIsRunning
    else { return nil }
    let plan: Plan
    // An error is that of the plan.
    do { plan = try Plan(observation, settings) } catch { return nil }
    guard plan.obstacle == nil else { return nil }
    let file = plan.sidecarSteps.configuration
    let expect = JSONValue.object(["bootstrap_expect": .integer(Int64(settings.expect ?? 1))])
    return ConfigurationFile(
      path: file.path, text: SecretDocument(expect.merging(plan.configuration.document.value)).text, owner: file.owner,
      validation: file.validation, stagedPath: file.stagedPath)
  }
}
