internal import Base
internal import Decisions
internal import Model

/// Parsers of option values. Each error explains, after the value, what a valid value is.

func nonEmpty(_ value: String) throws(OptionValueError) -> String {
  guard !value.isEmpty else { throw OptionValueError(expectation: "must not be empty") }
  return value
}

func path(_ value: String) throws(OptionValueError) -> String {
  guard value.hasPrefix("/") else { throw OptionValueError(expectation: "must be an absolute path") }
  return value.count > 1 && value.hasSuffix("/") ? String(value.dropLast()) : value
}

func boolean(_ value: String) throws(OptionValueError) -> Bool {
  switch value.lowercased() {
  case "true", "1", "yes": true
  case "false", "0", "no": false
  default: throw OptionValueError(expectation: "must be true or false")
  }
}

func integer(_ value: String, _ range: ClosedRange<Int>) throws(OptionValueError) -> Int {
  guard let number = Int(value), range.contains(number) else {
    throw OptionValueError(expectation: "must be a number from \(range.lowerBound) to \(range.upperBound)")
  }
  return number
}

func choice<Choice: RawRepresentable & CaseIterable>(_ value: String) throws(OptionValueError) -> Choice
where Choice.RawValue == String {
  guard let choice = Choice(rawValue: value) else {
    throw OptionValueError(expectation: "must be " + Choice.allCases.map(\.rawValue).joined(separator: ", "))
  }
  return choice
}

func template(_ value: String) throws(OptionValueError) -> NameTemplate {
  guard !value.isEmpty, let template = NameTemplate(value) else {
    throw OptionValueError(
      expectation: "must be a name with fields of these: "
        + NameTemplate.fields.keys.sorted().map { "{\($0)}" }.joined(separator: ", "))
  }
  return template
}

/// As Go writes durations: `90s`, `1m30s`, `500ms`, `2h`.
func duration(_ value: String, from minimum: Duration = .milliseconds(1)) throws(OptionValueError) -> Duration {
  let wrong = OptionValueError(
    expectation: "must be a duration such as 90s, 10m or 1h30m, from \(minimum.goText) to 24h")
  var milliseconds = 0.0
  var rest = Substring(value)
  let units: [(text: String, milliseconds: Double)] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
  guard !rest.isEmpty else { throw wrong }
  while !rest.isEmpty {
    let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    rest = rest.dropFirst(digits.count)
    guard let number = Double(digits), let unit = units.first(where: { rest.hasPrefix($0.text) }) else { throw wrong }
    milliseconds += number * unit.milliseconds
    rest = rest.dropFirst(unit.text.count)
  }
  guard (Double(minimum.wholeMilliseconds)...86_400_000).contains(milliseconds) else { throw wrong }
  return .milliseconds(Int64(milliseconds))
}

/// `ports.dns=53` becomes `{"ports": {"dns": 53}}`.
func setting(_ value: String) throws(OptionValueError) -> Settings.Overlay {
  guard let equals = value.firstIndex(of: "="), equals > value.startIndex else {
    throw OptionValueError(expectation: "must be KEY=JSON, for example ports.dns=53")
  }
  let key = value[..<equals], text = String(value[value.index(after: equals)...])
  guard let json = try? JSONValue(parsing: text) else {
    throw OptionValueError(expectation: "has no JSON after KEY=; quote strings: --set '\(key)=\"…\"'")
  }
  let parts = key.split(separator: ".", omittingEmptySubsequences: false)
  guard parts.allSatisfy({ !$0.isEmpty }) else { throw OptionValueError(expectation: "has an empty part in its key") }
  return .init(origin: "--set \(key)", value: parts.reversed().reduce(json) { .object([String($1): $0]) })
}

/// `private`, `public`, an interface, a CIDR or an address.
func addressChoice(_ value: String) throws(OptionValueError) -> Settings.AddressChoice {
  switch value {
  case "private": return .private
  case "public": return .public
  default: break
  }
  if let address = IPv4Address(value) { return .address(address) }
  if let network = IPv4Network(value) { return .network(network) }
  // IFNAMSIZ is 16, the terminating zero included (netdevice(7)).
  let isName =
    (1...15).contains(value.utf8.count) && value.utf8.allSatisfy { $0 > 32 && $0 < 127 && $0 != 47 && $0 != 58 }
  // Something of digits and dots only was meant as an address.
  guard isName, value.contains(where: \.isLetter) else {
    throw OptionValueError(
      expectation: "must be private, public, an interface such as eth1, a network such as 10.0.0.0/16, or an address")
  }
  return .interface(value)
}

/// `i-` and 8 or 17 hexadecimal digits.
func instanceID(_ value: String) throws(OptionValueError) -> String {
  let digits = value.dropFirst(2)
  let isID =
    value.hasPrefix("i-") && [8, 17].contains(digits.count) && digits.allSatisfy { $0.isASCII && $0.isHexDigit }
  guard isID else {
    throw OptionValueError(expectation: "must be the ID of an instance, for example i-0123456789abcdef0")
  }
  return value.lowercased()
}

func address(_ value: String) throws(OptionValueError) -> IPv4Address {
  guard let address = IPv4Address(value) else { throw OptionValueError(expectation: "must be an IPv4 address") }
  return address
}

/// `ssm:/consul/web/cluster`, as Parameter Store names paths (Systems Manager User Guide, "Working with parameter
/// hierarchies"): at most 15 levels, of which a zone and an entry are two.
func parameterPath(_ value: String) throws(OptionValueError) -> String {
  let path = value.dropFirst(4).split(separator: "/", omittingEmptySubsequences: false).dropFirst()
  let isPath =
    value.hasPrefix("ssm:/") && value.utf8.count <= 900 && (1...13).contains(path.count)
    && path.allSatisfy { part in
      !part.isEmpty
        && part.utf8.allSatisfy { byte in
          switch byte {
          case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
          default: false
          }
        }
    }
  guard isPath, !["aws", "ssm"].contains(where: { path.first?.lowercased().hasPrefix($0) ?? false }) else {
    throw OptionValueError(expectation: "must be ssm: and the path of a parameter, for example ssm:/consul/web/cluster")
  }
  return String(value.dropFirst(4))
}

/// Never repeats what it got: that may be the secret itself.
func secretReference(_ value: String) throws(OptionValueError) -> SecretReference {
  guard let reference = SecretReference(value) else {
    throw OptionValueError(
      expectation: "must be a reference to a secret, ssm:NAME, secretsmanager:ID[#key] or file:/PATH, not the secret: "
        + "every user of the machine can read command lines and environments")
  }
  return reference
}

/// `statsd=127.0.0.1:8125`, `prometheus=60s`.
func telemetry(_ value: String) throws(OptionValueError) -> Settings.Telemetry {
  let halves = value.split(separator: "=", maxSplits: 1).map(String.init)
  guard halves.count == 2, let sink = Settings.Telemetry.Sink(rawValue: halves[0]) else {
    throw OptionValueError(
      expectation: "must be one of "
        + Settings.Telemetry.Sink.allCases.map { "\($0.rawValue)=\($0 == .prometheus ? "DURATION" : "HOST:PORT")" }
        .joined(separator: ", "))
  }
  if sink == .prometheus { return .init(sink: sink, value: try duration(halves[1]).goText) }
  let parts = halves[1].split(separator: ":", omittingEmptySubsequences: false)
  guard parts.count == 2, NameTemplate.isHostName(String(parts[0])), let port = Int(parts[1]),
    (1...65535).contains(port)
  else {
    throw OptionValueError(expectation: "must have HOST:PORT after \(sink.rawValue)=")
  }
  return .init(sink: sink, value: halves[1])
}

/// Names, tags and digests as Docker writes them; nothing that its client would take for an option.
func imageName(_ value: String) throws(OptionValueError) -> String {
  let isName = !value.isEmpty && value.first != "-" && value.utf8.allSatisfy { $0 > 32 && $0 < 127 }
  guard isName else { throw OptionValueError(expectation: "must be the name of an image") }
  return value
}
