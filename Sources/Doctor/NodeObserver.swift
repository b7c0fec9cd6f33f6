package import Base
internal import Consul
internal import LogForwarding
package import Model
internal import Observers

extension NodeStatus {
  /// What `doctor` knows besides, from metadata and AWS.
  package struct Expectations: Sendable {
    package var datacenter: String?
    /// Number of servers of this datacenter.
    package var groupServers: Int?
    /// Addresses of the group's servers, as far as they are listed.
    package var servers: [IPv4Address] = []

    package init(datacenter: String? = nil, groupServers: Int? = nil) {
      self.datacenter = datacenter
      self.groupServers = groupServers
    }
  }

  /// Reads this machine only, without AWS, and changes nothing. Everything is asked at once, each with the same
  /// timeout: an agent that hangs does not hold the answer.
  package static func observe(
    _ settings: Settings, context: RuntimeContext, expectations: Expectations = Expectations()
  ) async -> NodeStatus {
    await NodeObserver(settings: settings, context: context).observe(expectations)
  }
}

struct NodeObserver: Sendable {
  let settings: Settings
  let context: RuntimeContext

  /// Of each request and command.
  private static let timeout = Duration.seconds(2)
  /// Some 500 bytes for each stream.
  private static let reportLimit = 16 << 20

  private var start: Settings.Start { settings.start(isBootedBySystemd: context.system.isBootedBySystemd) }

  func observe(_ expectations: NodeStatus.Expectations) async -> NodeStatus {
    let sidecarReport = sidecarReport()
    async let process = process(sidecarReport)
    async let unit = sidecarUnit()
    async let leaver = leaver()
    var agent = await agent(expectations)
    agent.process = await process
    // What is known now is not repeated from an older look.
    let reported =
      (agent.divergence.value ?? nil) == nil
      ? ClusterIdentityReport.problems(at: settings.identityReportPath, context.files) : []
    let record = RememberedRecord.problems(at: settings.rememberedRecordPath, context.files).map { message in
      Problem(message, hint: ClusterIdentityReport.hint)
    }
    let outage = agent.leader == nil ? OutageReport.problems(at: settings.outageReportPath, context.files) : []
    return NodeStatus(
      agent: agent,
      sidecar: SidecarStatus(
        unit: await unit, isExpected: exists(settings.sidecarConfigurationPath), report: sidecarReport),
      report: report(), expectsForwarding: !settings.logs.isEmpty, time: context.now(),
      lostOptions: settings.lostOptions, departure: departure(isAnswering: agent.silence == nil), leaver: await leaver,
      identityProblems: reported + record + outage)
  }

  // MARK: The departure

  private func departure(isAnswering: Bool) -> DepartureReport? {
    do {
      let path = settings.departureReportPath
      guard let bytes = try context.files.readIfPresent(path, limit: DepartureReport.sizeLimit) else { return nil }
      let uptime = context.uptime()
      guard let report = DepartureReport(json: try JSONValue(parsing: bytes)),
        report.isCurrent(uptime: uptime, bootID: context.bootID), !(isAnswering && report.isPast(uptime: uptime))
      else { return nil }
      return report
    } catch {
      // The next report replaces it.
      return nil
    }
  }

  private func leaver() async -> String? {
    guard settings.role == .server else { return nil }
    let configuration = CurrentConfiguration(reading: settings.configurationPath, context.files)
    let client = AgentClient(
      address: configuration.agentAddress(settings), token: configuration.agentToken, transport: context.transport,
      timeout: Self.timeout)
    do {
      let lock = try await client.leaveLock()
      return lock.session == nil ? nil : lock.instance
    } catch {
      context.log.debug("the lock to leave cannot be read", ["reason": .string(error.explained)])
      return nil
    }
  }

  // MARK: The agent

  private func agent(_ expectations: NodeStatus.Expectations) async -> NodeStatus.Agent {
    let configuration = CurrentConfiguration(reading: settings.configurationPath, context.files)
    // Options that only root can read may be those of another role.
    let configuredRole = configuration.document?["server"]?.bool.map { $0 ? Settings.Role.server : .client }
    let role = configuredRole ?? settings.role
    var agent = NodeStatus.Agent(address: configuration.agentAddress(settings), role: role)
    switch configuration.content {
    case .unreadable(let reason): agent.configurationError = reason
    case .present where configuration.document == nil:
      agent.configurationError = "\(settings.configurationPath) is not JSON"
    case .present, .absent: agent.configurationError = configuration.problems.first
    }
    agent.expected = expectedServers(configuration, expectations)
    let client = AgentClient(
      address: agent.address, token: configuration.agentToken, transport: context.transport, timeout: Self.timeout)
    async let members = answer { try await client.members(wan: false) }
    async let running = answer { try await client.runningAgent() }
    // Without a leader these answer after seven seconds (measured with 1.8.7): they are cancelled then.
    async let raft = role == .server ? answer { try await client.raftConfiguration() } : nil
    async let divergence = role == .server ? answer { try await client.divergence() } : nil
    async let answers = role == .server ? others(configuration, expectations) : [:]
    do {
      let cluster = try await client.clusterStatus()
      agent.silence = nil
      agent.leader = cluster.leader
      agent.peers = cluster.peers
    } catch {
      agent.silence = silence(error)
      return agent
    }
    let found = await members
    // An agent is a member of its own pool: where it lists none, its ACLs omit them.
    if case .known(let list) = found, list.isEmpty { agent.members = .hiddenByACLs } else { agent.members = found }
    agent.running = await running
    if let running = agent.running.value { agent.differences = differences(running, configuration, expectations) }
    guard let leader = agent.leader else { return agent }
    if let raft = await raft { agent.raft = raft }
    if let divergence = await divergence { agent.divergence = divergence }
    agent.otherClusters = await answers.sorted { $0.key < $1.key }.compactMap { address, answer in
      guard case .status(let status) = answer, let other = status.leader, !status.peers.isEmpty,
        Set(status.peers).isDisjoint(with: agent.peers)
      else { return nil }
      return AgentProblem.OtherCluster(server: address.description, leader: other, ownLeader: leader)
    }
    return agent
  }

  /// Each value once, by the nearest source.
  private func differences(
    _ running: RunningAgent, _ configuration: CurrentConfiguration, _ expectations: NodeStatus.Expectations
  ) -> [AgentProblem.Unused] {
    guard let document = configuration.document else { return [] }
    let file = MergedConfiguration.Source(path: settings.configurationPath, document)
    let planned: JSONValue = .object(expectations.datacenter.map { ["datacenter": .string($0)] } ?? [:])
    let options = MergedConfiguration.Source(path: "", SecretDocument(planned))
    var unused: [AgentProblem.Unused] = []
    // `bootstrap_expect` is left out: a run removes it from the file once the server has data.
    for (expected, source) in [
      (configuration.merged, AgentProblem.Unused.Source.files), (MergedConfiguration([file]), .ownFile),
      (MergedConfiguration([file, options]), .options),
    ] {
      for difference in ExpectedAgent(expected, bootstrapExpect: nil).differences(from: running)
      where !unused.contains(where: { $0.difference.key == difference.key }) {
        unused.append(.init(difference, of: source))
      }
    }
    return unused
  }

  /// More servers than a datacenter has.
  private static let maximumServers = 32

  /// The servers that the configuration lists, and those of the group.
  private func others(
    _ configuration: CurrentConfiguration, _ expectations: NodeStatus.Expectations
  ) async -> [IPv4Address: PeerAnswer] {
    let addresses = Set(configuration.peers + expectations.servers).sorted().prefix(Self.maximumServers)
    return await PeerObserver(configuration, settings: settings, context: context).query(Array(addresses))
  }

  /// Consul's words for a client that knows no server (structs.ErrNoServers).
  private static let noServers = "No known Consul servers"

  private func silence(_ error: any Error) -> NodeStatus.Silence {
    switch error {
    case AgentError.transport(.timedOut(whileConnecting: false)): .hang(error.explained)
    case AgentError.refused(_, let message) where message.contains(Self.noServers): .noServers(error.explained)
    default: .error(error.explained)
    }
  }

  private func answer<Value: Sendable>(_ request: () async throws -> Value) async -> NodeStatus.Answer<Value> {
    do {
      return .known(try await request())
    } catch AgentError.refused(status: 403, _) {
      return .hiddenByACLs
    } catch {
      return .unknown(reason: error.explained)
    }
  }

  private func expectedServers(
    _ configuration: CurrentConfiguration, _ expectations: NodeStatus.Expectations
  ) -> (servers: Int, source: AgentProblem.ExpectedServers)? {
    if let servers = settings.expect { return (servers, .option) }
    if let servers = expectations.groupServers { return (servers, .group) }
    let number = configuration.document?["bootstrap_expect"]?.integer.flatMap { Int(exactly: $0) }
    return number.map { ($0, .configuration) }
  }

  // MARK: Processes

  private func process(_ sidecar: SidecarStatus.Report) async -> AgentProcess {
    let process: AgentProcess
    switch start {
    case .systemd: process = await unitProcess()
    case .docker: process = await containerProcess()
    case .supervise, .none: process = supervisedProcess(sidecar)
    }
    guard case .running(let pid) = process.state else { return process }
    do {
      guard let stat = try context.files.readIfPresent("/proc/\(pid)/stat", limit: 4096) else { return process }
      return process.with(stat: String(decoding: stat, as: UTF8.self))
    } catch {
      return process
    }
  }

  private func unitProcess() async -> AgentProcess {
    switch await properties(AgentProcess.unitProperties, of: SystemdUnit.name) {
    case .success(let properties): AgentProcess(unit: properties, uptime: context.uptime()) ?? .unknown
    case .failure(let problem): AgentProcess(.systemd, .unknown(reason: problem.reason))
    }
  }

  private func containerProcess() async -> AgentProcess {
    guard let docker = MachineObserver(settings: settings, context: context).dockerPath else {
      return AgentProcess(.docker, .unknown(reason: "there is no Docker client"))
    }
    let command = Command(
      docker, ["container", "inspect", "--format", AgentProcess.containerFormat, DockerContainer.agentName])
    switch await result(of: command) {
    case .success(let output): return AgentProcess(container: output, now: context.now())
    case .failure(let problem): return AgentProcess(.docker, .unknown(reason: problem.reason))
    }
  }

  /// As the sidecar reports it, which runs in the agent's parent process.
  private func supervisedProcess(_ sidecar: SidecarStatus.Report) -> AgentProcess {
    guard case .present(let report, let age) = sidecar, age <= report.freshness, let agent = report.agent else {
      return .unknown
    }
    return AgentProcess(supervised: agent)
  }

  private func sidecarUnit() async -> SidecarStatus.Unit {
    guard context.system.isBootedBySystemd, start != .supervise, start != .none else { return .none }
    switch await properties(SidecarStatus.Unit.properties, of: SidecarUnit.name) {
    case .success(let properties): return SidecarStatus.Unit(properties, uptime: context.uptime())
    case .failure(let problem): return .unknown(reason: problem.reason)
    }
  }

  private struct CommandProblem: Error { let reason: String }

  private func properties(_ names: String, of unit: String) async -> Result<[String: String], CommandProblem> {
    await result(of: .systemctl("show", "--property=\(names)", unit)).map {
      CommandResult(end: .exited(0), output: $0).unitProperties
    }
  }

  private func result(of command: Command) async -> Result<String, CommandProblem> {
    do {
      let result = try await context.launcher.run(command, timeout: Self.timeout)
      return result.succeeded
        ? .success(result.output) : .failure(CommandProblem(reason: result.failureText(of: command)))
    } catch {
      return .failure(CommandProblem(reason: error.explained))
    }
  }

  // MARK: The sidecar's reports

  /// A file whose status is unreadable may exist.
  private func exists(_ path: String) -> Bool {
    do { return try context.files.status(path) != nil } catch { return true }
  }

  private func sidecarReport() -> SidecarStatus.Report {
    let path = settings.sidecarReportPath
    switch json(path, limit: SidecarReport.sizeLimit) {
    case .success(nil): return .absent
    case .success(let json?):
      guard let report = SidecarReport(json: json) else {
        return .unreadable(reason: "\(path) is not a report of the sidecar")
      }
      return .present(report, age: report.age(uptime: context.uptime(), bootID: context.bootID))
    case .failure(let problem): return .unreadable(reason: problem.reason)
    }
  }

  private func report() -> NodeStatus.Report {
    let path = settings.logReportPath
    switch json(path, limit: Self.reportLimit) {
    case .success(nil): return .absent
    case .success(let json?):
      return ForwardingReport(json: json).map(NodeStatus.Report.present)
        ?? .unreadable(reason: "\(path) is not a report on log forwarding")
    case .failure(let problem): return .unreadable(reason: problem.reason)
    }
  }

  private func json(_ path: String, limit: Int) -> Result<JSONValue?, CommandProblem> {
    do {
      guard let bytes = try context.files.readIfPresent(path, limit: limit) else { return .success(nil) }
      return .success(try JSONValue(parsing: bytes))
    } catch let error as JSONSyntaxError {
      return .failure(CommandProblem(reason: "\(path) is not JSON: \(error.explanation)"))
    } catch {
      return .failure(CommandProblem(reason: error.explained))
    }
  }
}
