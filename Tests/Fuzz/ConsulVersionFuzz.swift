import Consul

/// Output of `consul version`, or of anything else at that path: a version that is read again as it was, or none.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let text = inputText(data, count)
  if let build = ConsulVersion(build: text) {
    precondition(ConsulVersion(build: "\(build):0bc1ef4c") == build, "not read as it was written")
  }
  guard let version = ConsulVersion(output: text) else { return 0 }
  precondition(version.major >= 0 && version.minor >= 0 && version.patch >= 0, "a negative number")
  precondition(ConsulVersion(output: "Consul v\(version)") == version, "not read as it was written")
  return 0
}
