internal import Base

/// What an agent reports of the configuration that it uses (`/v1/agent/self`). Consul documents `Config` only, so that
/// nothing of `DebugConfig` is relied upon: what is missing is nil.
package struct RunningAgent: Sendable, Equatable {
  package var datacenter: String?
  package var nodeName: String?
  package var isServer: Bool?
  package var dataDirectory: String?
  package var bindAddress: String?
  /// 0 if the agent does not bootstrap.
  package var bootstrapExpect: Int64?
  /// `address:port` at which raft reaches a server.
  package var raftAddress: String?

  package init() {}

  init(_ report: JSONValue) {
    let config = report["Config"], debug = report["DebugConfig"], member = report["Member"]
    datacenter = (config?["Datacenter"] ?? debug?["Datacenter"])?.string
    nodeName = (config?["NodeName"] ?? debug?["NodeName"])?.string
    isServer = (config?["Server"] ?? debug?["ServerMode"])?.bool
    dataDirectory = debug?["DataDir"]?.string
    bindAddress = debug?["BindAddr"]?.string
    // Consul turns a number of 1 into `bootstrap` and 0 (checked with 1.8.7).
    bootstrapExpect = debug?["Bootstrap"]?.bool == true ? 1 : debug?["BootstrapExpect"]?.integer
    if let host = member?["Addr"]?.string, let port = member?["Tags"]?["port"]?.string {
      raftAddress = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
  }
}
