internal import Base
package import Consul

/// What an agent must report of itself if it uses its configuration, and not the flags of another unit, a file that was
/// changed meanwhile, or nothing of ours because it is another agent.
package struct ExpectedAgent: Sendable, Equatable {
  private let datacenter: String?
  private let nodeName: String?
  private let isServer: Bool
  private let dataDirectory: String?
  private let bindAddress: IPv4Address?
  private let bootstrapExpect: Int64?

  /// - Parameters:
  ///   - configuration: of all files. Values that Consul computes, such as templates, are not compared.
  ///   - bootstrapExpect: 0 if the agent must not bootstrap; nil if that is not compared.
  package init(_ configuration: MergedConfiguration, bootstrapExpect: Int64?) {
    let text = { (key: String) in configuration[key]?.string.flatMap { $0.contains("{{") ? nil : $0 } }
    datacenter = text("datacenter")?.lowercased()
    nodeName = text("node_name")
    isServer = configuration["server"]?.bool ?? false
    dataDirectory = text("data_dir")
    bindAddress = text("bind_addr").flatMap { IPv4Address($0) }
    self.bootstrapExpect = bootstrapExpect
  }

  /// A key of the configuration, its planned and its real value. None of these keys is a secret.
  package struct Difference: Sendable, Equatable, CustomStringConvertible {
    package let key: String
    package let expected: String
    package let real: String

    package var description: String { "\(key) is \(real), not \(expected)" }
  }

  /// What the agent does not report counts as equal.
  package func differences(from agent: RunningAgent) -> [Difference] {
    let pairs: [(String, String?, String?)] = [
      ("datacenter", datacenter, agent.datacenter), ("node_name", nodeName, agent.nodeName),
      ("server", "\(isServer)", agent.isServer.map { "\($0)" }), ("data_dir", dataDirectory, agent.dataDirectory),
      ("bind_addr", bindAddress?.description, agent.bindAddress),
      ("bootstrap_expect", bootstrapExpect.map { "\($0)" }, agent.bootstrapExpect.map { "\($0)" }),
    ]
    return pairs.compactMap { key, expected, real in
      guard let expected, let real, expected != real else { return nil }
      return Difference(key: key, expected: expected, real: real)
    }
  }
}
