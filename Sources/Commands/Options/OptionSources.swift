internal import Base
package import Model
internal import Observers

/// Where options come from, the strongest source first: the command line, the environment, the file of `--config`, the
/// last run, the machine's file. What the last run recorded had been stronger than the machine's file then, and is now.
extension OptionParser {
  struct Source {
    enum Kind { case given, lastRun, recovered, machine }

    let kind: Kind
    let values: [String: [Value]]

    /// The machine's file is read again by every later run.
    var isRecorded: Bool { kind == .given || kind == .lastRun }
  }

  /// Of two such options, the last run's gives way.
  private static let alternatives = [("group", "tag"), ("gossip-key", "gossip-key-create")]

  /// - Parameter given: values of the command line, then those of the environment.
  func sources(
    _ source: Subcommand.OptionSource, given: [[String: [Value]]], _ configPath: String?, _ settings: inout Settings
  ) throws -> [Source] {
    let machine = try configurationFile(Self.configurationFile, isRequired: false)
    var sources = given.map { Source(kind: .given, values: $0) }
    if let configPath {
      if source == .startingRun {
        sources += startingRun(configPath, given: given, &settings)
      } else {
        sources.append(.init(kind: .given, values: try configurationFile(configPath, isRequired: true)))
      }
    }
    switch source {
    case .ownLastRun where !isFresh(sources, machine): sources += try ownLastRun(sources, machine, &settings)
    case .lastRun where configPath == nil: sources += lastRun(sources, machine, &settings)
    case .none, .machine, .lastRun, .startingRun, .ownLastRun: break
    }
    if configPath == nil || source == .startingRun { sources.append(.init(kind: .machine, values: machine)) }
    return sources
  }

  private func isFresh(_ stronger: [Source], _ machine: [String: [Value]]) -> Bool {
    let text = value("fresh", stronger) ?? machine["fresh"]?.last?.text
    return text.map { ["true", "1", "yes"].contains($0.lowercased()) } ?? false
  }

  // MARK: The last run

  /// For a run. Without its options it might change an agent that it should only confirm: one that has no options
  /// itself stops. One that has some goes on with those.
  private func ownLastRun(
    _ stronger: [Source], _ machine: [String: [Value]], _ settings: inout Settings
  ) throws -> [Source] {
    let path = recordedPath(stronger, machine)
    do {
      guard let found = try recorded(path) else { return [] }
      return [.init(kind: .lastRun, values: found.filter { !gives(way: $0.key, to: stronger) })]
    } catch {
      let hasOptions = stronger.contains { source in
        source.values.keys.contains { name in Option.all.contains { $0.name == name && $0.isRecorded } }
      }
      guard hasOptions else {
        throw Failure(
          .usage, "the options of the last run are damaged", details: error.lines.map { $0.trimmed },
          hint: "run again with all options of this machine, or with --fresh if it needs none")
      }
      settings.lostOptions = error.lines[0]
      return []
    }
  }

  /// For `status` and `doctor`, which report what is lost.
  private func lastRun(
    _ stronger: [Source], _ machine: [String: [Value]], _ settings: inout Settings
  ) -> [Source] {
    let path = recordedPath(stronger, machine)
    do {
      if let found = try recorded(path) {
        return [.init(kind: .lastRun, values: found.filter { !gives(way: $0.key, to: stronger) })]
      }
      let source = recovered(stronger, &settings)
      guard !source.values.isEmpty else { return [] }
      settings.lostOptions = "\(path) is missing: no run has succeeded, or the state directory was deleted"
      return [source]
    } catch {
      settings.lostOptions = error.lines[0]
      return [recovered(stronger, &settings)]
    }
  }

  /// For the sidecar, which starts whatever has become of the file.
  private func startingRun(_ path: String, given: [[String: [Value]]], _ settings: inout Settings) -> [Source] {
    do {
      if let found = try recorded(path) { return [.init(kind: .given, values: found)] }
      settings.lostOptions = "\(path) is missing"
    } catch {
      settings.lostOptions = error.lines[0]
    }
    return [recovered(given.map { .init(kind: .given, values: $0) }, &settings)]
  }

  private func gives(way name: String, to stronger: [Source]) -> Bool {
    Self.alternatives.contains { first, second in
      let other = name == first ? second : name == second ? first : nil
      return stronger.contains { source in other.map { source.values[$0] != nil } ?? false }
    }
  }

  private func recordedPath(_ stronger: [Source], _ machine: [String: [Value]]) -> String {
    var settings = Settings()
    if let directory = value("state-dir", stronger) ?? machine["state-dir"]?.last?.text {
      settings.stateDirectory = directory
    }
    return settings.sidecarConfigurationPath
  }

  private func value(_ name: String, _ sources: [Source]) -> String? {
    sources.compactMap { $0.values[name]?.last?.text }.first
  }

  /// The options that a run recorded, each of which is valid by itself; nil if there is no such file. Only root may
  /// read it: without it, other users see the state for the machine's options.
  private func recorded(_ path: String) throws(Failure) -> [String: [Value]]? {
    do {
      guard let bytes = try files.readIfPresent(path) else { return nil }
      let values = try values(of: Self.object(bytes, path: path), path: path)
      var scratch = Options()
      for option in Option.all {
        for value in values[option.name] ?? [] { try apply(option, value, &scratch) }
      }
      return values
    } catch let error as FileError where error.isPermissionDenied {
      return [:]
    } catch {
      throw error as? Failure ?? Failure(.usage, error.explained)
    }
  }

  // MARK: Recovery

  /// What the agent's configuration on disk shows of the options that wrote it: enough to monitor the agent, not to
  /// write its configuration again. One that cannot be read shows nothing; the sidecar and `status` report it anyway.
  private func recovered(_ stronger: [Source], _ settings: inout Settings) -> Source {
    var scratch = Options()
    if let directory = value("config-dir", stronger) { scratch.settings.configDirectory = directory }
    let path = scratch.settings.configurationPath
    let found = CurrentConfiguration(reading: path, files).document
    var texts: [String: String] = [:]
    if let isServer = found?["server"]?.bool { texts["role"] = isServer ? "server" : "client" }
    if found?["retry_join_wan"] != nil {
      texts["layout"] = "datacenter-per-az"
    } else if let name = found?["datacenter"]?.string {
      texts["datacenter"] = name
    }
    if let directory = found?["data_dir"]?.string { texts["data-dir"] = directory }
    if let port = found?["ports"]?["http"]?.integer { texts["set"] = "ports.http=\(port)" }
    var values: [String: [Value]] = [:]
    for option in Option.all {
      guard let value = texts[option.name].map({ Value(text: $0, origin: path) }) else { continue }
      do {
        try apply(option, value, &scratch)
        values[option.name] = [value]
      } catch {
        // Another program has changed the file.
        settings.lostOptions = [settings.lostOptions, error.message].compactMap { $0 }.joined(separator: "; ")
      }
    }
    return .init(kind: .recovered, values: values)
  }

  // MARK: A reload

  /// The settings of a process, read again.
  ///
  /// Under supervise another run may have recorded other options meanwhile: they replace those that this process was
  /// started with. The sidecar's own file is always the last run's.
  /// - Throws: `Failure`; the caller keeps the present settings.
  package func reread(_ arguments: [String], environment: [String: String], started: Settings) throws -> Settings {
    let path = started.sidecarConfigurationPath
    var arguments = arguments, environment = environment
    let own = try texts(of: started)
    if case .bootstrap = try parse(arguments, environment: environment), let found = try recorded(path),
      found.mapValues({ $0.map(\.text) }) != own
    {
      arguments = ["sidecar", "--config", path]
      environment = environment.filter { !$0.key.hasPrefix(Option.environmentPrefix) }
    }
    switch try parse(arguments, environment: environment) {
    case .bootstrap(let options), .command(_, let options):
      if let reason = options.settings.lostOptions { throw Failure(.usage, reason) }
      return options.settings
    case .help, .version: return started
    }
  }

  /// The options that a process recorded, as `recorded` reads them.
  private func texts(of settings: Settings) throws -> [String: [String]] {
    try values(of: settings.givenOptions, path: "").mapValues { $0.map(\.text) }
  }
}

extension Settings {
  /// A combination with options that this run was not given: says so.
  func blamingLastRun(_ failure: Failure) -> Failure {
    guard !optionsOfLastRun.isEmpty else { return failure }
    var failure = failure
    failure.details.append("the last run set " + optionsOfLastRun.map { "--\($0)" }.joined(separator: ", "))
    failure.hint = [failure.hint, "--fresh forgets the options of the last run"].compactMap { $0 }
      .joined(separator: "; ")
    return failure
  }
}

extension String {
  fileprivate var trimmed: String { String(drop { $0 == " " }) }
}
