@testable import Base
@testable import Consul

/// A configuration file of another program, in HCL or JSON. What is read can be written as JSON and read again.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let bytes = input(data, count)
  for syntax in [ConfigurationSyntax.hcl, .json] {
    guard let value = try? syntax.parse(bytes) else { continue }
    precondition((try? ConfigurationSyntax.json.parse(Array(value.compactText.utf8))) == value, "not read as written")
    let source = MergedConfiguration.Source(path: "a", SecretDocument(value))
    _ = MergedConfiguration([source, source]).document.value.leaves
  }
  return 0
}
