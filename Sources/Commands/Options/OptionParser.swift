package import Base
internal import Decisions
internal import Model

/// Reads options from the command line, over the environment, over the configuration file; where they come from
/// besides, `OptionSources.swift` says.
package struct OptionParser: Sendable {
  let files: any FileReader
  /// Whether a text is a POSIX extended regular expression.
  private let isPattern: @Sendable (String) -> Bool

  package init(files: any FileReader, isPattern: @escaping @Sendable (String) -> Bool) {
    self.files = files
    self.isPattern = isPattern
  }

  package enum Request: Sendable {
    case bootstrap(Options)
    case command(Subcommand, Options)
    case help
    case version
  }

  static let configurationFile = "/etc/consul-bootstrap/config.json"

  /// - Parameter arguments: without the program's name.
  /// - Throws: `Failure` with status 2.
  package func parse(_ arguments: [String], environment: [String: String]) throws -> Request {
    let line = try commandLine(arguments)
    if line.wantsHelp { return .help }
    if line.wantsVersion { return .version }
    var options = Options()
    options.operand = line.operand
    if let command = line.command, command.optionSource == .none { return .command(command, options) }
    let configPath = line.configPath ?? environment[Option.environmentPrefix + "CONFIG"]
    let sources = try sources(
      line.command?.optionSource ?? .ownLastRun, given: [line.values, try variables(environment)],
      configPath, &options.settings)
    var given: Set<String> = []
    for option in Option.all {
      // The strongest source that sets an option sets it alone, lists included.
      guard let source = sources.first(where: { $0.values[option.name]?.isEmpty == false }),
        let values = source.values[option.name]
      else { continue }
      given.insert(option.name)
      // A word about one moment is not said again later.
      if source.isRecorded, option.isRecorded {
        options.settings.givenOptions[option.name] = option.json(values.map(\.text))
      }
      if source.kind == .lastRun { options.settings.optionsOfLastRun.append(option.name) }
      for value in values { try apply(option, value, &options) }
    }
    do {
      try finish(&options)
      // What an agent's configuration shows is never the whole of what was given.
      if !sources.contains(where: { $0.kind == .recovered }),
        let conflict = OptionConflict.first(in: options.settings, given: given)
      {
        throw conflict
      }
    } catch let failure as Failure {
      throw options.settings.blamingLastRun(failure)
    }
    try refuseOptionsOfOthers(options, line.command)
    return line.command.map { .command($0, options) } ?? .bootstrap(options)
  }

  func apply(_ option: Option, _ value: Value, _ options: inout Options) throws(Failure) {
    do {
      try option.apply(value.text, &options)
    } catch {
      throw Failure(
        .usage, "\(value.origin): \(Self.shown(value.text, option)) \(error.expectation)",
        hint: "consul-bootstrap --help explains --\(option.name)")
    }
  }

  private func refuseOptionsOfOthers(_ options: Options, _ command: Subcommand?) throws {
    if options.isDryRun, let command, !command.ownOptions.contains("dry-run") {
      throw Failure(
        .usage, "--dry-run cannot be combined with \(command.name)",
        hint: "consul-bootstrap --dry-run shows what a run would do, its sidecar included")
    }
    if options.isFresh, command != nil {
      throw Failure(.usage, "--fresh is only for a run", hint: "omit it, or run without a command")
    }
    if command?.name != Subcommand.leave.name, options.leaving != Options.Leaving() {
      throw Failure(
        .usage, "--wait, --force and --stopping are only for leave",
        hint: "consul-bootstrap leave --help explains them")
    }
    if options.checks, command?.ownOptions.contains("check") != true {
      throw Failure(.usage, "--check is only for status", hint: "consul-bootstrap status --check")
    }
  }

  /// A value with its source, for error messages.
  struct Value {
    let text: String
    let origin: String
  }

  /// A merged value may be a secret.
  private static func shown(_ text: String, _ option: Option) -> String {
    if option.name == "set" { return "\"\(text.prefix { $0 != "=" })=…\"" }
    if option.metavariable.hasSuffix("SECRET") || option.name == "gossip-key-create" { return "the value" }
    return "\"\(text)\""
  }

  // MARK: Command line

  private struct CommandLine {
    var values: [String: [Value]] = [:]
    var configPath: String?
    var command: Subcommand?
    var operand: String?
    var wantsHelp = false
    var wantsVersion = false
  }

  private func commandLine(_ arguments: [String]) throws -> CommandLine {
    var line = CommandLine()
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      if argument == "-h" || argument == "--help" { line.wantsHelp = true; continue }
      if argument == "-V" || argument == "--version" { line.wantsVersion = true; continue }
      if line.command == nil, let command = Subcommand.named(argument) { line.command = command; continue }
      if line.operand == nil, line.command?.operands.contains(argument) == true { line.operand = argument; continue }
      guard argument.hasPrefix("--"), argument.count > 2 else { throw noCommand(argument) }
      let halves = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(halves[0]), attached = halves.count == 2 ? String(halves[1]) : nil
      if name == "config" {
        guard let path = attached ?? rest.popFirst() else { throw missingValue("config") }
        line.configPath = path
        continue
      }
      guard let option = Option.all.first(where: { $0.name == name }) else { throw unknown("option --", name) }
      let text: String
      if option.shape == .flag {
        text = attached ?? "true"
      } else if let value = attached ?? rest.popFirst() {
        text = value
      } else {
        throw missingValue(name)
      }
      if case .list = option.shape {
      } else if line.values[name] != nil {
        throw Failure(.usage, "--\(name) is set twice", hint: "set it once")
      }
      line.values[name, default: []].append(Value(text: text, origin: "--\(name)"))
    }
    return line
  }

  private func noCommand(_ word: String) -> Failure {
    let commands = Subcommand.all.map(\.name)
    let list = "the commands are \(commands.joined(separator: ", ")); see consul-bootstrap --help"
    let guess = nearestName(to: word, among: commands).map { "did you mean \($0)? " } ?? ""
    return Failure(.usage, "unknown command \(word)", hint: guess + list)
  }

  private func missingValue(_ name: String) -> Failure {
    Failure(.usage, "--\(name) needs a value", hint: "consul-bootstrap --help explains --\(name)")
  }

  private func unknown(_ kind: String, _ name: String) -> Failure {
    let guess = nearestName(to: name, among: Option.all.map(\.name) + ["config", "help", "version"])
    return Failure(
      .usage, "unknown \(kind)\(name)",
      hint: guess.map { "did you mean \(kind == "option --" ? "--" : "")\($0)?" } ?? "see consul-bootstrap --help")
  }

  // MARK: Environment

  private func variables(_ environment: [String: String]) throws -> [String: [Value]] {
    var values: [String: [Value]] = [:]
    for (variable, text) in environment.sorted(by: { $0.key < $1.key })
    where variable.hasPrefix(Option.environmentPrefix) {
      if variable == Option.environmentPrefix + "CONFIG" { continue }
      guard let option = Option.all.first(where: { $0.environmentName == variable }) else {
        let guess = nearestName(to: variable, among: Option.all.map(\.environmentName))
        throw Failure(
          .usage, "unknown environment variable \(variable)",
          hint: guess.map { "did you mean \($0)?" } ?? "see consul-bootstrap --help")
      }
      guard !text.isEmpty else { continue }
      if case .list = option.shape {
        values[option.name] = try list(text, variable).map { Value(text: $0, origin: variable) }
      } else {
        values[option.name] = [Value(text: text, origin: variable)]
      }
    }
    return values
  }

  /// `a,b`, or a JSON array of texts where an item has a comma.
  private func list(_ text: String, _ variable: String) throws -> [String] {
    guard text.hasPrefix("[") else { return text.split(separator: ",").map(String.init) }
    guard let items = (try? JSONValue(parsing: text))?.array?.map(\.string), !items.contains(nil) else {
      throw Failure(
        .usage, "\(variable) begins with [ but is not a JSON array of strings", hint: #"for example ["a=1", "b=2"]"#)
    }
    return items.compactMap { $0 }
  }

  // MARK: Configuration file

  func configurationFile(_ path: String, isRequired: Bool) throws -> [String: [Value]] {
    let bytes: [UInt8]
    do {
      guard let found = try files.readIfPresent(path) else {
        guard !isRequired else {
          throw Failure(.usage, "there is no configuration file \(path)", hint: "correct --config")
        }
        return [:]
      }
      bytes = found
    } catch let error as FileError {
      throw Failure(
        .usage, "cannot read the configuration file", details: [error.explanation],
        hint: error.isPermissionDenied ? "run as root, or make \(path) readable" : "repair \(path) or its file system")
    }
    return try values(of: Self.object(bytes, path: path), path: path)
  }

  func values(of members: [String: JSONValue], path: String) throws -> [String: [Value]] {
    var values: [String: [Value]] = [:]
    for (key, value) in members.sorted(by: { $0.key < $1.key }) {
      guard let option = Option.all.first(where: { $0.name == key }) else {
        let failure = unknown("key ", key)
        throw Failure(.usage, "\(path): \(failure.message)", hint: failure.hint)
      }
      let items = value.array ?? [value]
      let texts = items.map { item -> String? in
        switch item {
        case .string(let text): text
        case .integer(let number): String(number)
        case .bool(let bool): bool ? "true" : "false"
        // A log source with fields of its own: the option reads it.
        case .object where key == "log": item.compactText
        default: nil
        }
      }
      if case .list = option.shape {
      } else if value.array != nil {
        throw Failure(
          .usage, "\(path): \(key) takes one value, not a list", hint: "write the value without brackets")
      }
      guard !texts.contains(nil) else {
        throw Failure(
          .usage, "\(path): \(key) must be a string, a number or a boolean",
          hint: "write \"\(key)\": \(option.json([option.example]).compactText), for example")
      }
      values[key] = texts.compactMap { $0 }.map { Value(text: $0, origin: "\(path): \(key)") }
    }
    return values
  }

  static func object(
    _ bytes: [UInt8], path: String, example: String = #"{"expect": 5}"#
  ) throws -> [String: JSONValue] {
    let hint = "write one JSON object, for example \(example)"
    do {
      guard let members = try JSONValue(parsing: bytes).object else {
        throw Failure(.usage, "\(path) is not a JSON object", hint: hint)
      }
      return members
    } catch let error as JSONSyntaxError {
      throw Failure(.usage, "\(path) is not JSON", details: [error.description], hint: hint)
    }
  }

  // MARK: What depends on more than one option

  private func finish(_ options: inout Options) throws {
    switch (options.groups.isEmpty, options.tags.isEmpty) {
    case (false, false):
      throw Failure(
        .usage, "--group and --tag are mutually exclusive", hint: "discover the servers by group or by tag, not both")
    case (false, true):
      guard options.groups.count <= 100 else { throw Failure(.usage, "more than 100 groups", hint: "use --tag") }
      options.settings.membership = .groups(options.groups)
    case (true, false):
      guard options.settings.expect != nil || options.settings.role == .client else {
        throw Failure(
          .usage, "--tag requires --expect", details: ["tags carry no desired capacity"],
          hint: "set the number of servers, for example --expect 5")
      }
      options.settings.membership = .tags(options.tags)
    case (true, true): break
    }
    for pattern in options.patterns where !isPattern(pattern.text) {
      throw Failure(
        .usage,
        "\(pattern.origin): \"\(pattern.text)\" must be a POSIX extended regular expression (regex(7)), or indentation",
        hint: "consul-bootstrap --help explains --multiline-start")
    }
    var overlays: [Settings.Overlay] = []
    for path in options.mergeFiles {
      do {
        overlays.append(
          .init(
            origin: "--merge \(path)",
            value: .object(
              try Self.object(
                try files.read(path, limit: 1 << 20), path: path, example: #"{"ports": {"dns": 53}}"#))))
      } catch let error as FileError {
        throw Failure(
          .usage, "cannot read the file of --merge", details: [error.explanation],
          hint: "correct --merge, or the permissions of \(path)")
      }
    }
    for overlay in options.sets where overlay.value.redacted != overlay.value.value {
      throw Failure(
        .usage, "\(overlay.origin) is a secret",
        details: ["every user of the machine can read command lines and environments"],
        hint: "write it into a file that only root can read, and merge it with --merge FILE")
    }
    options.settings.overlays = overlays + options.sets
    if let created = options.createdGossipKey, options.settings.gossipKey == nil {
      options.settings.gossipKey = created
      options.settings.createsGossipKey = true
    }
    if options.settings.isProduction, options.settings.aclDefaultPolicy == nil {
      options.settings.aclDefaultPolicy = "deny"
    }
    try refuseReservedKeys(options.settings)
  }

  /// Overlays may not set keys that protect against a second cluster.
  private func refuseReservedKeys(_ settings: Settings) throws {
    let instead = ["bootstrap": "--expect", "bootstrap_expect": "--expect", "data_dir": "--data-dir"]
    for overlay in settings.overlays {
      // Consul compares keys without their case.
      let keys = Set((overlay.value.value.object ?? [:]).keys.map { $0.lowercased() })
      for (key, option) in instead.sorted(by: { $0.key < $1.key }) where keys.contains(key) {
        throw Failure(.usage, "\(overlay.origin) sets \(key)", hint: "use \(option)")
      }
    }
  }
}
